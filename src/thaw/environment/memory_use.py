"""Max Memory Used: the peak of what the processes of a sandbox held in memory."""

from __future__ import annotations

import os
from contextlib import suppress

_MIB = 1024 * 1024


class MemoryUse:
    """Peak resident memory of a function's process, whose status file stays open, and of its children.

    The group's own peak is not used: it counts the file cache, which is not the function's need.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._status = -1
        self._peak_kib = 0

    def watch(self, pid: int) -> None:
        """The main process, as this process numbers it; 0 for one that has ended already."""
        self._pid = pid
        if pid:
            with suppress(FileNotFoundError, ProcessLookupError):
                self._status = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)

    def measure(self, processes: list[int], init: int) -> int:
        """MiB, rounded up, of all in `processes` but PID 1 (`init`); never less than measured before."""
        total = _peak_of(self._status) if self._status >= 0 else 0
        for pid in processes:
            if pid not in (self._pid, init):
                total += _peak_of_process(pid)
        self._peak_kib = max(self._peak_kib, total)
        return max(1, -(-self._peak_kib * 1024 // _MIB))

    def close(self) -> None:
        """Close the status file; the peak stays."""
        if self._status >= 0:
            os.close(self._status)
            self._status = -1


def _peak_of_process(pid: int) -> int:
    try:
        status = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    try:
        return _peak_of(status)
    finally:
        os.close(status)


def _peak_of(status: int) -> int:
    """VmHWM in KiB; 0 for a process that has ended."""
    with suppress(ProcessLookupError):
        _, found, rest = os.pread(status, 4096, 0).partition(b"VmHWM:")
        return int(rest.split(None, 1)[0]) if found else 0
    return 0
