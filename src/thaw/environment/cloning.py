"""What an environment asks of the engine: put a clone of a frozen function into this sandbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneRequest:
    """Everything that a clone gets from its sandbox.

    `sandbox_pidfd` is of the sandbox's PID 1, `connection_fd` the function's end of the prepared Runtime API
    connection, `log_fd` the pipe for stdout and stderr, `cgroup_fd` a version 2 group to be born in (None: the
    parent's). `pid` is the number that the clone gets in the sandbox; 0 leaves the choice to the engine. The
    descriptors stay the caller's. `host_id` is what `uid` and `gid` are on this machine where the sandbox has a user
    namespace of its own (None: it has none).
    """

    sandbox_pidfd: int
    connection_fd: int
    log_fd: int
    cgroup_fd: int | None
    uid: int
    gid: int
    seccomp_filter: bytes
    pid: int = 0
    host_id: int | None = None


class Cloned(Protocol):
    """A clone that runs: its number on the worker, and a pidfd that now belongs to the environment. It is a child of
    this process, which has to reap it."""

    @property
    def pid(self) -> int: ...

    @property
    def pidfd(self) -> int: ...


# Raises RestoreRefused or RestoreFailed.
Thaw = Callable[[CloneRequest], Awaitable[Cloned]]
# Puts a snapshot's files into the clone's /tmp before the clone starts, given a descriptor of that folder, and this
# machine's numbers of users and groups by those that the snapshot knows.
FillTmp = Callable[[int, Mapping[int, int]], None]
