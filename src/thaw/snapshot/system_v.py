"""System V objects (sysvipc(7)): they belong to the namespace, not to a process, and have no way back."""

from __future__ import annotations

import os
from typing import Final

from thaw.errors import NotFreezable
from thaw.snapshot.namespaces import inside
from thaw.snapshot.process import read_text

_KINDS: Final = {
    "shm": ("shared memory segment", "remove it in a before-snapshot hook, or use mmap"),
    "sem": ("semaphore set", "remove it in a before-snapshot hook, or use POSIX semaphores"),
    "msg": ("message queue", "remove it in a before-snapshot hook, or use a pipe"),
}


def refuse_system_v(pid: int) -> None:
    """Look for objects in the sandbox's IPC namespace; a process that shares ours cannot be told apart and may pass.

    Raises:
        NotFreezable: there is one.
    """
    if os.readlink(f"/proc/{pid}/ns/ipc") == os.readlink("/proc/self/ns/ipc"):
        return
    # /proc/sysvipc shows the namespace of whoever opens it.
    lists = inside(pid, "ipc", lambda: {kind: read_text(f"/proc/sysvipc/{kind}").splitlines()[1:] for kind in _KINDS})
    for kind, (name, remedy) in _KINDS.items():
        if lists[kind]:
            raise NotFreezable(f"The function has a System V {name}, which cannot be frozen: {remedy}.")
