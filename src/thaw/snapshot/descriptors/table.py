"""What descriptors a process has, which of them share one open file, and our own duplicate of each open file."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field
from typing import Final

from thaw.errors import FreezeFailed
from thaw.snapshot.process import read_text

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
    """The text of /proc/PID/fdinfo/N."""
    duplicate: int
    """A descriptor of the same open file in this process."""
    numbers: dict[int, bool] = field(default_factory=dict)
    """Descriptor numbers in the function's process, ascending, and whether each is closed on exec."""

    @property
    def first(self) -> int:
        """The lowest number; what messages name."""
        return next(iter(self.numbers))

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
    """All open files of a process; a context manager that closes the duplicates."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.files: list[OpenFile] = []

    def __enter__(self) -> DescriptorTable:
        pidfd = _system_call(_SYS_PIDFD_OPEN, self._pid, 0)
        try:
            for number in sorted(int(name) for name in os.listdir(f"/proc/{self._pid}/fd")):
                self._add(pidfd, number)
        finally:
            os.close(pidfd)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            os.close(file.duplicate)

    def _add(self, pidfd: int, number: int) -> None:
        link = os.readlink(f"/proc/{self._pid}/fd/{number}")
        information = read_text(f"/proc/{self._pid}/fdinfo/{number}")
        flags = int(_field(information, "flags"), 8)
        close_on_exec = bool(flags & os.O_CLOEXEC)
        for file in self.files:
            if file.link == link and self._same(file.first, number):
                file.numbers[number] = close_on_exec
                return
        duplicate = _system_call(_SYS_PIDFD_GETFD, pidfd, number, 0)
        position = int(_field(information, "pos"))
        self.files.append(
            OpenFile(link, flags & ~os.O_CLOEXEC, position, information, duplicate, {number: close_on_exec})
        )

    def _same(self, left: int, right: int) -> bool:
        return _system_call(_SYS_KCMP, self._pid, self._pid, _KCMP_FILE, left, right) == 0

    @property
    def highest(self) -> int:
        """The highest descriptor number; -1 where there is none."""
        return max((number for file in self.files for number in file.numbers), default=-1)

    def holder(self, number: int) -> OpenFile | None:
        """The open file behind a descriptor number."""
        return next((file for file in self.files if number in file.numbers), None)
