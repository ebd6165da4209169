"""What the function's own interpreter knows of its process just before the snapshot, for people who publish.

`Origins` notes during Init where in the source threads, sockets and child processes are made (audit events, PEP 578).
The report is sent to the platform once, after the function's before-snapshot hooks; clones send nothing. It
holds names, numbers and places in the source, and no values of the function's.

Runs in the function's interpreter, which may be as old as Python 3.9.
"""

from __future__ import annotations

import gc
import heapq
import io
import json
import mmap
import os
import socket
import sys
import threading
import time
import weakref
from itertools import filterfalse
from types import FrameType, ModuleType
from typing import Any

PATH = "/thaw/v1/report"
# What the platform takes; longer reports lose their longest lists first.
LIMIT = 200_000
TYPES, OBJECTS, FRAMES, LISTED = 40, 8, 6, 64
LARGE = 1 << 20
# Looking through many millions of objects may not make a publish slow.
SECONDS = 2.0
GENERATORS = {
    ("random", "Random"),
    ("numpy.random.mtrand", "RandomState"),
    ("numpy.random._generator", "Generator"),
}
# Made again, or seeded again, in every clone: by their modules (another process number), or by Thaw.
RENEWED = ("random._inst", "tempfile._name_sequence", "numpy.random.mtrand._rand")
CREDENTIALS = ("botocore.credentials",)
STANDARD = os.path.dirname(os.path.abspath(os.__file__))
HERE = os.path.dirname(os.path.abspath(__file__))

Place = list[Any]
"""[file, line, function]"""


def _is_users(file: str) -> bool:
    """Whether a source file is the function's or its packages', and not the language's or the runtime's."""
    if file.startswith(("<", HERE + os.sep)):
        return False
    return not file.startswith(STANDARD + os.sep) or "site-packages" in file


def stack_of(frame: FrameType | None) -> list[Place]:
    """The function's own frames from the innermost outwards; at most FRAMES, of which the last is the outermost."""
    places: list[Place] = []
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            places.append([frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name])
        frame = frame.f_back
    return places if len(places) <= FRAMES else [*places[: FRAMES - 1], places[-1]]


class Origins:
    """Where things were made that a snapshot may not be able to keep, or that need a hook."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, list[Place]]] = {}
        self._forks: list[list[Place]] = []
        self._watched: dict[str, Any] = {
            "socket.__new__": self._socket,
            "_thread.start_new_thread": self._thread,
            "_thread.start_joinable_thread": self._thread,
            "subprocess.Popen": self._popen,
            "os.fork": self._fork,
            "os.posix_spawn": self._fork,
        }
        self._watching = True

    def watch(self) -> None:
        """Begins; the hook stays in the process, as Python has no way to take it out, and costs next to nothing."""
        watched = self._watched

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event in watched:
                watched[event](arguments)

        sys.addaudithook(hook)

    def stop(self) -> None:
        """Notes nothing any more and forgets what it noted."""
        self._watched.clear()
        self._made.clear()
        self._forks.clear()

    def of(self, thing: object) -> list[Place]:
        """Where an object was made; [] where that is not known."""
        made = self._made.get(id(thing))
        return made[1] if made is not None and made[0]() is thing else []

    def objects(self, kind: type) -> list[Any]:
        """All noted objects of a type that still exist."""
        return [thing for reference, _ in list(self._made.values()) if isinstance(thing := reference(), kind)]

    @property
    def only_fork(self) -> list[Place]:
        """Where the process forked, if it did so at one place."""
        return self._forks[0] if len({str(places) for places in self._forks}) == 1 else []

    def _keep(self, thing: object, frame: FrameType | None) -> None:
        try:
            reference = weakref.ref(thing)
        except TypeError:
            return  # a bare _socket.socket: it has no name that a report could use either
        self._made[id(thing)] = (reference, stack_of(frame))

    def _socket(self, arguments: tuple[Any, ...]) -> None:
        self._keep(arguments[0], sys._getframe(2))

    def _thread(self, arguments: tuple[Any, ...]) -> None:
        thread = getattr(arguments[0], "__self__", None)
        if thread is not None:
            self._keep(thread, sys._getframe(2))

    def _popen(self, arguments: tuple[Any, ...]) -> None:
        frame = _method_frame("_execute_child")
        if frame is not None:
            self._keep(frame.f_locals["self"], frame)

    def _fork(self, arguments: tuple[Any, ...]) -> None:
        frame = _method_frame("_launch")
        if frame is not None:
            self._keep(frame.f_locals["self"], frame)
        else:
            self._forks.append(stack_of(sys._getframe(2)))


def _method_frame(name: str) -> FrameType | None:
    """The nearest frame of a method of that name, as those in which subprocess and multiprocessing start processes."""
    frame: FrameType | None = sys._getframe(3)
    while frame is not None:
        if frame.f_code.co_name == name and "self" in frame.f_locals:
            return frame
        frame = frame.f_back
    return None


# --- the parts of the report ------------------------------------------------------------------------------------------


def threads(origins: Origins) -> list[dict[str, Any]]:
    """Every thread that Python knows: its name, its number as the process sees it, where it is, where it was made."""
    frames = sys._current_frames()
    return [
        {
            "name": thread.name,
            "number": thread.native_id or 0,
            "daemon": thread.daemon,
            "main": thread is threading.main_thread(),
            "at": _innermost(frames.get(thread.ident or 0)),
            "made": origins.of(thread),
        }
        for thread in threading.enumerate()[:LISTED]
    ]


def _innermost(frame: FrameType | None) -> list[Place]:
    """Where a thread is: its innermost frame, and the innermost one of the function's own."""
    if frame is None:
        return []
    return [[frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name], *stack_of(frame)[:1]]


def sockets(origins: Origins) -> list[dict[str, Any]]:
    """Sockets by descriptor number, with where they were made."""
    open_ones = [(one, one.fileno()) for one in origins.objects(socket.socket)]
    return [{"descriptor": number, "made": origins.of(one)} for one, number in open_ones if number >= 0][:LISTED]


def children(origins: Origins) -> list[dict[str, Any]]:
    """Child processes that Python started: number, command, where; those that only fork know have no command."""
    found = []
    for one in origins.objects(object):
        pid = getattr(one, "pid", None)
        if isinstance(pid, int) and getattr(one, "returncode", None) is None:
            command = getattr(one, "args", "")
            text = command if isinstance(command, str) else " ".join(map(str, command or ()))
            found.append({"number": pid, "command": text.split("\n")[0][:80], "made": origins.of(one)})
    if origins.only_fork:
        found.append({"number": 0, "command": "", "made": origins.only_fork})
    return found[:LISTED]


def holder(thing: object, depth: int = 4) -> str:
    """A name under which a module holds an object, as "app.rng" or "app.client._random"; "" where none is near."""
    seen = {id(thing)}
    near: list[tuple[object, str]] = [(thing, "")]
    for _ in range(depth):
        further: list[tuple[object, str]] = []
        for one, name in near:
            for referrer in gc.get_referrers(one):
                if id(referrer) in seen or isinstance(referrer, FrameType) or referrer is near or referrer is further:
                    continue
                seen.add(id(referrer))
                part, owner = _name_in(referrer, one)
                if owner:
                    return owner + part + name
                further.append((referrer, part + name))
        near = further[:200]
    return ""


def _name_in(referrer: Any, thing: object) -> tuple[str, str]:
    """How `thing` is reached from `referrer`, as ".rng" or "[2]"; and the module's name, if it is one's namespace."""
    if isinstance(referrer, ModuleType):
        return _key(vars(referrer), thing), referrer.__name__
    if isinstance(referrer, dict):
        module = sys.modules.get(str(referrer.get("__name__", "")))
        if module is not None and vars(module) is referrer:
            return _key(referrer, thing), module.__name__
        return "", ""
    if isinstance(referrer, (list, tuple)):
        return "[%d]" % next((at for at, one in enumerate(referrer) if one is thing), 0), ""
    return _key(getattr(referrer, "__dict__", {}), thing), ""


def _key(namespace: Any, thing: object) -> str:
    for key, value in list(namespace.items()):
        if value is thing or (isinstance(value, dict) and value is thing):
            return "." + str(key)
    return ""


def _type_name(kind: type) -> str:
    module = getattr(kind, "__module__", "")
    name = getattr(kind, "__qualname__", "?")
    return str(name) if module in ("builtins", "") else "%s.%s" % (module, name)


class Census:
    """One walk over all objects: how many of each type and how large, the largest ones, and those that need a hook.

    Containers come from the garbage collector; strings, numbers and arrays are what those refer to. Which of these
    were met is noted in a table of one bit for each 16 bytes of memory, modulo 2 GiB: a set of numbers would stay
    behind in the heap, megabytes in every snapshot. Sizes are `sys.getsizeof`, so memory that an extension module does
    not admit to is missing.
    """

    BITS = 1 << 27

    def __init__(self) -> None:
        self.complete = True
        self.counts: dict[type, list[int]] = {}
        self.large: list[tuple[int, int, Any]] = []
        self.generators: list[Any] = []
        self.credentials: list[Any] = []
        self.files: list[Any] = []
        self._lists: dict[type, list[Any]] = {}

    def take(self) -> None:
        """Walks; stops, and says so, when its time is up."""
        deadline = time.monotonic() + SECONDS
        tracked = gc.get_objects()  # what gc.freeze() hid is among them: see `make_report`
        with mmap.mmap(-1, self.BITS >> 3) as met:
            for start in range(0, len(tracked), 1024):
                if time.monotonic() > deadline:
                    self.complete = False
                    return
                part = tracked[start : start + 1024]
                self._count(part)
                self._count(self._untracked(part, met))

    def _untracked(self, things: list[Any], met: mmap.mmap) -> list[Any]:
        """What `things` refer to and the collector does not know, each once in a walk. Every step here counts."""
        found = []
        mask = self.BITS - 1
        for thing in filterfalse(gc.is_tracked, gc.get_referents(*things)):
            place = id(thing) >> 4 & mask
            index, bit = place >> 3, 1 << (place & 7)
            held = met[index]
            if not held & bit:
                met[index] = held | bit
                found.append(thing)
        return found

    def _count(self, things: list[Any]) -> None:
        counts, lists, size_of = self.counts, self._lists, sys.getsizeof
        for thing in things:
            kind = type(thing)
            try:
                size = size_of(thing, 0)
            except Exception:  # __sizeof__ of the function's own classes may raise anything
                size = 0
            entry = counts.get(kind)
            if entry is None:
                entry = counts[kind] = self._new_kind(kind)
            entry[0] += 1
            entry[1] += size
            if kind in lists:
                lists[kind].append(thing)
            if size >= LARGE:
                self._note_large(size, thing)

    def _new_kind(self, kind: type) -> list[int]:
        """Notes once for each type whether its objects are of interest."""
        names = {(base.__module__, base.__name__) for base in kind.__mro__}
        if kind is io.FileIO:
            self._lists[kind] = self.files
        elif names & GENERATORS and ("random", "SystemRandom") not in names:
            self._lists[kind] = self.generators
        elif kind.__module__ in CREDENTIALS and "Credentials" in kind.__name__:
            self._lists[kind] = self.credentials
        return [0, 0]

    def _note_large(self, size: int, thing: Any) -> None:
        if thing is not self.counts:
            heapq.heappush(self.large, (size, id(thing), thing))
            if len(self.large) > OBJECTS:
                heapq.heappop(self.large)

    def types(self) -> list[list[Any]]:
        """[[type, count, bytes], …], the largest first."""
        ordered = sorted(self.counts.items(), key=lambda item: -item[1][1])[:TYPES]
        return [[_type_name(kind), count, size] for kind, (count, size) in ordered]

    def largest(self) -> list[list[Any]]:
        """[[type, bytes, name of its holder], …], the largest first."""
        return [[_type_name(type(thing)), size, holder(thing)] for size, _, thing in sorted(self.large, reverse=True)]

    def kept_generators(self) -> list[list[str]]:
        """[[type, name of its holder], …] of random generators that go on with one and the same stream in clones."""
        named = [[_type_name(type(one)), holder(one)] for one in self.generators[:LISTED]]
        return [entry for entry in named if not entry[1].startswith(RENEWED)]

    def kept_credentials(self) -> list[list[str]]:
        """[[type, name of its holder], …] of the AWS SDK's credentials that hold a key and do not renew themselves."""
        lasting = [one for one in self.credentials if "Refreshable" not in type(one).__name__]
        holding = [one for one in lasting if getattr(one, "access_key", None)]
        named = [[_type_name(type(one)), holder(one)] for one in holding[:LISTED]]
        return [entry for entry in named if not entry[1].endswith("._frozen_credentials")]

    def open_files(self) -> list[dict[str, Any]]:
        """Files that objects of Python hold open, by descriptor, with the name of their holder."""
        found = [(one.fileno(), one) for one in self.files[:LISTED] if not one.closed]
        return [{"descriptor": number, "holder": holder(one)} for number, one in found if number > 2]

    def total(self) -> list[int]:
        """[objects, bytes]"""
        return [sum(entry[0] for entry in self.counts.values()), sum(entry[1] for entry in self.counts.values())]


def make_report(origins: Origins) -> dict[str, Any]:
    """The whole report; see `thaw.publish.report` for what reads it.

    Functions that call gc.freeze() hide their objects from the collector's lists; they are put back where they were.
    """
    frozen, enabled = gc.get_freeze_count() > 0, gc.isenabled()
    gc.disable()
    if frozen:
        gc.unfreeze()
    try:
        return _report(origins)
    finally:
        if frozen:
            gc.freeze()
        if enabled:
            gc.enable()


def _report(origins: Origins) -> dict[str, Any]:
    report: dict[str, Any] = {
        "language": "python%d.%d" % sys.version_info[:2],
        "threads": threads(origins),
        "sockets": sockets(origins),
        "children": children(origins),
        "variables": sorted(os.environ),
    }
    census = Census()
    census.take()
    report["complete"] = census.complete
    report["total"] = census.total()
    report["types"] = census.types()
    report["largest"] = census.largest()
    report["generators"] = census.kept_generators()
    report["credentials"] = census.kept_credentials()
    report["files"] = census.open_files()
    return report


def send(report: dict[str, Any]) -> None:
    """POSTs the report over a connection of its own, which is closed again."""
    body = json.dumps(report).encode()
    if len(body) > LIMIT:
        body = json.dumps({**report, "types": [], "variables": [], "largest": []}).encode()[:LIMIT]
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
    head = "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (PATH, host, len(body))
    with socket.create_connection((host, int(port or 80)), 5) as connection:
        connection.sendall(head.encode() + body)
        connection.recv(4096)


class Reporter:
    """The before-snapshot hook."""

    def __init__(self) -> None:
        self._origins = Origins()
        self._origins.watch()

    def send(self) -> None:
        """Runs last of all before-snapshot hooks. A report that cannot be made is no reason to fail a publish."""
        try:
            send(make_report(self._origins))
        except Exception as error:
            print("Thaw could not look into the process before the snapshot: %r" % (error,), file=sys.stderr)
        finally:
            self._origins.stop()
