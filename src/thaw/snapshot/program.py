"""Programs of a restore plan: system calls whose arguments are known at publish (native/plan.h, docs/formats.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

# Numbers of arch/x86/entry/syscalls/syscall_64.tbl
SYSTEM_CALLS: Final[dict[str, int]] = {
    "read": 0, "write": 1, "open": 2, "close": 3, "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12,
    "rt_sigaction": 13, "ioctl": 16, "pread64": 17, "madvise": 28, "getitimer": 36, "setitimer": 38, "socket": 41,
    "connect": 42, "sendto": 44, "shutdown": 48, "bind": 49, "listen": 50, "getsockname": 51, "socketpair": 53,
    "setsockopt": 54, "fcntl": 72, "flock": 73, "ftruncate": 77, "chdir": 80, "unlink": 87, "chmod": 90,
    "fchown": 93, "lchown": 94, "umask": 95, "setsid": 112, "setgroups": 116, "setresuid": 117, "setresgid": 119,
    "rt_sigqueueinfo": 129, "sigaltstack": 131, "setpriority": 141, "prctl": 157, "arch_prctl": 158, "gettid": 186,
    "sched_setaffinity": 203, "set_tid_address": 218, "timer_create": 222, "timer_settime": 223,
    "timer_gettime": 224, "timer_delete": 226, "epoll_ctl": 233, "inotify_add_watch": 254, "inotify_rm_watch": 255,
    "set_robust_list": 273, "timerfd_create": 283, "timerfd_settime": 286, "accept4": 288, "signalfd4": 289,
    "eventfd2": 290, "epoll_create1": 291, "dup3": 292, "pipe2": 293, "inotify_init1": 294,
    "rt_tgsigqueueinfo": 297, "prlimit64": 302, "seccomp": 317, "getrandom": 318, "memfd_create": 319,
    "membarrier": 324, "mlock2": 325, "rseq": 334, "close_range": 436, "mseal": 462,
}  # fmt: skip

OPTIONAL: Final = 1
RESULT_IS_ARG0: Final = 2
RESULT_IS_ARG2: Final = 4

_STEP = struct.Struct("=HBBIQ6Q")
STEP_SIZE: Final = _STEP.size  # 64 bytes
_NONE = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Variable:
    """A 32-bit word of the plan, at an absolute address, that a step fills and later steps use."""

    address: int


@dataclass(frozen=True, slots=True)
class ImageOffset:
    """An offset in the clones' part of the memory image, which lies behind the template's; known when that is."""

    offset: int


Argument = int | Variable | ImageOffset


@dataclass(frozen=True, slots=True)
class Step:
    """One system call.

    `label` is the offset in the plan of the text that an error shows; `result` where the result goes.
    """

    number: int
    arguments: tuple[Argument, ...]
    flags: int = 0
    label: int = 0
    result: Variable | None = None

    def encode(self, image_base: int) -> bytes:
        """64 bytes (struct step); `image_base` is where the clones' part of the memory image begins."""
        loads = sum(1 << index for index, argument in enumerate(self.arguments) if isinstance(argument, Variable))
        values = [_value(argument, image_base) for argument in self.arguments]
        values += [0] * (6 - len(values))
        return _STEP.pack(
            self.number, self.flags, loads, self.label, self.result.address if self.result else 0, *values
        )


def _value(argument: Argument, image_base: int) -> int:
    if isinstance(argument, Variable):
        return argument.address
    if isinstance(argument, ImageOffset):
        return image_base + argument.offset
    return argument & _NONE
