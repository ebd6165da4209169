"""What descriptors the processes have, which of them share one open file, and our own duplicate of each open file."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from typing import Final

from thaw.errors import FreezeFailed
from thaw.snapshot.process import own_number, read_text

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD, _SYS_KCMP = 434, 438, 312
_KCMP_FILE: Final = 0
O_ACCMODE: Final = 3


@dataclass(slots=True, eq=False)
class OpenFile:
    """One open file description (open(2)) and all descriptors that lead to it."""

    link: str
    """Target of /proc/PID/fd/N."""
    flags: int
    """Status flags and access mode, without close-on-exec."""
    position: int
    information: str
    """The text of /proc/PID/fdinfo/N, of the first process that has it."""
    duplicate: int
    """A descriptor of the same open file in this process."""
    pid: int
    """The first process that has it, in our pid namespace."""
    owner: str
    """How messages name that process: empty for the function's own."""
    numbers: dict[int, bool] = field(default_factory=dict)
    """Descriptor numbers in that process, ascending, and whether each is closed on exec."""
    elsewhere: dict[int, dict[int, bool]] = field(default_factory=dict)
    """The same for every other process that has it, by the process's number."""

    @property
    def first(self) -> int:
        """The lowest number; what messages name."""
        return next(iter(self.numbers))

    def numbers_in(self, pid: int) -> dict[int, bool]:
        """Descriptor numbers in one process, and whether each is closed on exec."""
        return self.numbers if pid == self.pid else self.elsewhere.get(pid, {})

    @property
    def inode(self) -> int:
        """Inode number."""
        return os.fstat(self.duplicate).st_ino


def _system_call(number: int, *arguments: int) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise FreezeFailed(
            f"System call {number} on the function's process failed ({os.strerror(error)}): "
            "Thaw needs Linux 5.6 or later with CONFIG_CHECKPOINT_RESTORE, and the right to trace the process."
        )
    return result


def _field(information: str, name: str) -> str:
    for line in information.splitlines():
        if line.startswith(name + ":"):
            return line.split(":", 1)[1].strip()
    raise FreezeFailed(f"The kernel's fdinfo has no field {name!r}: {information!r}.")


def field_of(file: OpenFile, name: str) -> str:
    """A field of the fdinfo text."""
    return _field(file.information, name)


class DescriptorTable:
    """All open files of some processes, of which the function's is the first; a context manager that closes the
    duplicates."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self.files: list[OpenFile] = []

    def __enter__(self) -> DescriptorTable:
        for pid in self._pids:
            pidfd = _system_call(_SYS_PIDFD_OPEN, pid, 0)
            try:
                for number in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):
                    self._add(pid, pidfd, number)
            finally:
                os.close(pidfd)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            os.close(file.duplicate)

    def _add(self, pid: int, pidfd: int, number: int) -> None:
        link = os.readlink(f"/proc/{pid}/fd/{number}")
        information = read_text(f"/proc/{pid}/fdinfo/{number}")
        flags = int(_field(information, "flags"), 8)
        close_on_exec = bool(flags & os.O_CLOEXEC)
        for file in self.files:
            if file.link == link and _is_same(file, pid, number):
                numbers = file.numbers if pid == file.pid else file.elsewhere.setdefault(pid, {})
                numbers[number] = close_on_exec
                return
        duplicate = _system_call(_SYS_PIDFD_GETFD, pidfd, number, 0)
        position = int(_field(information, "pos"))
        self.files.append(
            OpenFile(
                link,
                flags & ~os.O_CLOEXEC,
                position,
                information,
                duplicate,
                pid,
                self._owner(pid),
                {number: close_on_exec},
            )
        )

    def _owner(self, pid: int) -> str:
        if pid == self._pids[0]:
            return ""
        name = read_text(f"/proc/{pid}/comm").rstrip("\n")
        return f" of child process {own_number(pid)} ({name!r})"

    @property
    def highest(self) -> int:
        """The highest descriptor number; -1 where there is none."""
        tables = (table for file in self.files for table in (file.numbers, *file.elsewhere.values()))
        return max((number for table in tables for number in table), default=-1)

    def holder(self, pid: int, number: int) -> OpenFile | None:
        """The open file behind a descriptor number of one process."""
        return next((file for file in self.files if number in file.numbers_in(pid)), None)


def _is_same(file: OpenFile, pid: int, number: int) -> bool:
    return _system_call(_SYS_KCMP, file.pid, pid, _KCMP_FILE, file.first, number) == 0
