"""Which module knows which kind of open file, and how the copies get their numbers."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from thaw.snapshot.descriptors import events
from thaw.snapshot.descriptors.context import Context, Place, refusal
from thaw.snapshot.descriptors.named_files import plan_locks, plan_named, plan_nameless
from thaw.snapshot.descriptors.pipes import plan_fifo, plan_pipe
from thaw.snapshot.descriptors.sockets import plan_socket
from thaw.snapshot.descriptors.table import OpenFile
from thaw.snapshot.descriptors.unix_sockets import UnixState, plan_one_way, plan_unix, read_unix_states
from thaw.snapshot.plan import Program

_EVENT_KINDS: Final[dict[str, Callable[[Context, OpenFile], int]]] = {
    "anon_inode:[eventfd]": events.plan_eventfd,
    "anon_inode:[timerfd]": events.plan_timerfd,
    "anon_inode:[signalfd]": events.plan_signalfd,
    "anon_inode:[eventpoll]": events.plan_epoll,
    "anon_inode:inotify": events.plan_inotify,
}
_REFUSED: Final = {
    "anon_inode:[io_uring]": "an io_uring instance",
    "anon_inode:[userfaultfd]": "a userfaultfd",
    "anon_inode:[perf_event]": "a performance counter",
    "anon_inode:[pidfd]": "a handle of another process",
    "anon_inode:[fanotify]": "a fanotify group",
    "anon_inode:bpf-map": "a BPF map",
    "anon_inode:bpf-prog": "a BPF program",
}
Placement = tuple[OpenFile, int]


def _is_unix(file: OpenFile) -> bool:
    with socket.socket(fileno=os.dup(file.duplicate)) as view:
        return view.family == socket.AF_UNIX


def _is_log(context: Context, file: OpenFile) -> bool:
    status = os.fstat(file.duplicate)
    return (status.st_dev, status.st_ino) == context.log


def _plan_pipes(context: Context, files: list[OpenFile]) -> list[Placement]:
    by_pipe: dict[str, list[OpenFile]] = {}
    for file in files:
        by_pipe.setdefault(file.link, []).append(file)
    return [placement for ends in by_pipe.values() for placement in plan_pipe(context, ends)]


def _plan_unix_sockets(context: Context, files: list[OpenFile], states: dict[int, UnixState]) -> list[Placement]:
    by_inode = {file.inode: file for file in files}
    placed: list[Placement] = []
    done: set[int] = set()
    for file in files:
        if id(file) not in done:
            planned = plan_unix(context, file, states, by_inode)
            done |= {id(other) for other, _ in planned}
            placed += planned
    return placed


def _plan_other(context: Context, file: OpenFile) -> int:
    if file.link in _EVENT_KINDS:
        return _EVENT_KINDS[file.link](context, file)
    if file.link.startswith("socket:"):
        return plan_socket(context, file)
    if file.link.startswith("/memfd:") or (file.link.startswith("/") and not os.fstat(file.duplicate).st_nlink):
        return plan_nameless(context, file)
    if file.link.startswith("/") and stat.S_ISFIFO(os.fstat(file.duplicate).st_mode):
        return plan_fifo(context, file)
    if file.link.startswith("/"):
        return plan_named(context, file)
    raise refusal(file, _REFUSED.get(file.link, "of a kind that Thaw does not know"))


def _place(place: Place, file: OpenFile, held: int) -> None:
    for number, close_on_exec in file.numbers_in(place.pid).items():
        place.enter.call("dup3", held, number, os.O_CLOEXEC if close_on_exec else 0, label=f"descriptor {number}")


def _plan_private(context: Context, file: OpenFile) -> None:
    """What /proc says of a process is opened by each process for itself, when all of them are there."""
    for place in context.places:
        if file.numbers_in(place.pid):
            own = replace(context, plan=place.plan, enter=place.enter, places=[place])
            _place(place, file, plan_named(own, file))


def plan_descriptors(context: Context, seal: Program) -> None:
    """Plan every descriptor of the processes; `seal` is the program in which a tree's memfds are sealed, when all
    processes have mapped them.

    Raises:
        NotFreezable: one of them has no way back.
    """
    logs = [file for file in context.table.files if _is_log(context, file)]
    files = [file for file in context.table.files if file not in logs]
    private = [file for file in files if context.is_tree and file.link.startswith("/proc/")]
    files = [file for file in files if file not in private]
    pipes = [file for file in files if file.link.startswith("pipe:")]
    unix = [file for file in files if file.link.startswith("socket:") and _is_unix(file)]
    rest = [file for file in files if file not in pipes and file not in unix]
    placed = [(file, context.kept.log) for file in logs]
    states = read_unix_states(context.pid) if unix else {}
    placed += _plan_pipes(context, pipes) + _plan_unix_sockets(context, unix, states)
    placed += [(file, _plan_other(context, file)) for file in rest]
    for file, held in placed:
        if file in unix:
            plan_one_way(context, file, held, states)
    for file in private:
        _plan_private(context, file)
    for place in context.places:
        _plan_place(context, place, placed)
    if context.is_tree:
        context.nameless.seal(seal)


def _plan_place(context: Context, place: Place, placed: list[Placement]) -> None:
    for file, held in placed:
        _place(place, file, held)
    if not context.is_tree:
        context.nameless.seal(place.enter)
    if not (context.is_tree and context.nameless.sealed and place is context.places[0]):
        # Before any lock is taken: closing one descriptor of a file drops all its POSIX locks in a process (fcntl(2)).
        place.enter.call("close_range", context.kept.first_scratch, 0xFFFF_FFFF, 0)
    for file, _ in placed:
        if file.numbers_in(place.pid) and not _is_log(context, file):
            plan_locks(place, file)
            if file.link == "anon_inode:[eventpoll]" and file.pid == place.pid:
                events.plan_epoll_entries(context, place, file)
