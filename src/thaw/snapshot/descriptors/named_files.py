"""Files, folders and devices that have a path, and the locks on them."""

from __future__ import annotations

import os
import re
import stat
import struct
from typing import Final

from thaw.snapshot.descriptors.context import Context, Place, refusal
from thaw.snapshot.descriptors.table import OpenFile
from thaw.snapshot.process import read_text
from thaw.snapshot.program import OPTIONAL

_MEMORY_DEVICES: Final = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)}  # null zero full random urandom tty
_LOCK = re.compile(
    r"^lock:\s+\d+: (?P<kind>\w+)\s+\w+\s+(?P<mode>READ|WRITE)\s+-?\d+ \S+ (?P<start>\d+) (?P<end>\d+|EOF)",
    re.MULTILINE,
)
_F_SETLK, _F_OFD_SETLK = 6, 37
_LOCK_SHARED, _LOCK_EXCLUSIVE, _LOCK_NONBLOCK = 1, 2, 4


def _own_path(context: Context, path: str) -> str:
    """A path of the process's own folder in /proc holds a number that the clone has not."""
    prefix = f"/proc/{context.places[0].own_pid}/"
    return "/proc/self/" + path.removeprefix(prefix) if path.startswith(prefix) else path


def _refuse_unreachable(context: Context, file: OpenFile, status: os.stat_result) -> None:
    """A path can lead elsewhere by now, or never have led anywhere: a POSIX message queue only looks like a file."""
    if file.link.startswith("/proc/"):
        return  # made anew for whoever looks
    try:
        found = os.stat(f"/proc/{context.pid}/root{file.link}", follow_symlinks=False)
    except FileNotFoundError:
        raise refusal(file, "a file that its path does not lead to") from None
    if (found.st_dev, found.st_ino) != (status.st_dev, status.st_ino):
        raise refusal(file, "a file whose path leads to another one by now")


def plan_named(context: Context, file: OpenFile) -> int:
    """Open the path again, with the same flags, at the same place."""
    status = os.fstat(file.duplicate)
    _refuse_unreachable(context, file, status)
    if stat.S_ISCHR(status.st_mode) and (os.major(status.st_rdev), os.minor(status.st_rdev)) not in _MEMORY_DEVICES:
        raise refusal(file, "a device")
    if stat.S_ISBLK(status.st_mode):
        raise refusal(file, "a block device")
    path = context.plan.text(_own_path(context, file.link))
    held = context.hold("open", path, file.flags | os.O_CLOEXEC, label=f"open of {file.link}")
    if file.position:
        optional = 0 if stat.S_ISREG(status.st_mode) else OPTIONAL
        context.enter.call("lseek", held, file.position, os.SEEK_SET, flags=optional, label=f"lseek in {file.link}")
    return held


def plan_locks(place: Place, file: OpenFile) -> None:
    """Take a process's locks again; nobody else can hold them, because the file belongs to the clone alone.

    Locks of an open file are taken in the first process that has it."""
    first = next(iter(file.numbers_in(place.pid)))
    information = file.information if place.pid == file.pid else read_text(f"/proc/{place.pid}/fdinfo/{first}")
    for lock in _LOCK.finditer(information):
        if lock["kind"] != "POSIX" and place.pid != file.pid:
            continue
        exclusive = lock["mode"] == "WRITE"
        if lock["kind"] == "FLOCK":
            operation = (_LOCK_EXCLUSIVE if exclusive else _LOCK_SHARED) | _LOCK_NONBLOCK
            place.enter.call("flock", first, operation, label=f"flock of {file.link}")
        elif lock["kind"] in ("POSIX", "OFDLCK"):
            start = int(lock["start"])
            length = 0 if lock["end"] == "EOF" else int(lock["end"]) - start + 1
            # struct flock: type, whence, padding, start, length, pid, padding
            record = struct.pack("=hhiqqii", 1 if exclusive else 0, os.SEEK_SET, 0, start, length, 0, 0)
            command = _F_SETLK if lock["kind"] == "POSIX" else _F_OFD_SETLK
            place.enter.call("fcntl", first, command, place.plan.allocate(record), label=f"lock of {file.link}")
        else:
            raise refusal(file, f"a file with a {lock['kind']} lock", "give it back in a before-snapshot hook")


def plan_nameless(context: Context, file: OpenFile) -> int:
    """A deleted file or a memfd: its contents are in the image; each open file of it has its own flags and position."""
    shared = context.nameless.descriptor(file.duplicate, file.link)
    # Through /proc/self/fd a file is opened anew, with a position of its own.
    path = context.plan.text(f"/proc/self/fd/{shared}")
    flags = file.flags & ~os.O_NOFOLLOW | os.O_CLOEXEC
    held = context.hold("open", path, flags, label=f"open of {file.link}")
    if file.position:
        context.enter.call("lseek", held, file.position, os.SEEK_SET)
    return held
