"""The seccomp filter of a function's process: an allow-list compiled to a classic BPF program.

The kernel runs the program for every system call that its own cache does not already know to be allowed, so it is a
binary search over ranges of numbers: about seven comparisons whatever the call.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from thaw.environment.seccomp_list import ALLOWED, CLONE, CLONE3, IOCTL, PERSONALITY, REFUSED, SOCKET
from thaw.errors import SandboxError

RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
RET_ALLOW = 0x7FFF0000
AUDIT_ARCH_X86_64 = 0xC000003E
X32_BIT = 0x40000000

# Offsets in struct seccomp_data; arguments are 64 bits wide, the low word first.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

# CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}: no namespace of a function's own.
NEW_NAMESPACES = 0x80 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
# unix, inet, inet6, netlink (getifaddrs). vsock would reach the hypervisor, packet and others nothing useful.
_FAMILIES = (1, 2, 10, 16)
# TIOCSTI and TIOCLINUX type into somebody else's terminal.
_TERMINAL_INPUT = (0x5412, 0x541C)
# PER_LINUX, the same without address randomisation, and the question what it is.
_PERSONALITIES = (0, 0x0040000, 0xFFFFFFFF)

_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x05, 0x06


class Instruction(NamedTuple):
    """struct sock_filter: operation, jumps when true and false (counted from the next one), operand."""

    operation: int
    when_true: int
    when_false: int
    operand: int


Program = list[Instruction]


@cache
def function_filter() -> bytes:
    """The compiled program, 8 bytes for each instruction. Raises SandboxError on another processor than x86-64."""
    if platform.machine() != "x86_64":
        raise SandboxError(f"Thaw's sandbox knows x86-64 only, not {platform.machine()}.", step="seccomp")
    return b"".join([struct.pack("<HBBI", *each) for each in compile_filter()])


def compile_filter() -> Program:
    """The program as a list; ends in every case in a return."""
    head = [
        Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        Instruction(_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        _return(RET_KILL_PROCESS),
        Instruction(_LOAD, 0, 0, _NUMBER),
    ]
    return head + _search(_segments())


def _refuse(number: int) -> Program:
    return [_return(RET_ERRNO | number)]


def _return(action: int) -> Instruction:
    return Instruction(_RETURN, 0, 0, action)


def _argument(index: int) -> Instruction:
    return Instruction(_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _clone() -> Program:
    return [
        _argument(0), Instruction(_ANY_BIT, 0, 1, NEW_NAMESPACES),
        _return(RET_ERRNO | errno.EPERM), _return(RET_ALLOW),
    ]  # fmt: skip


def _one_of(argument: int, values: tuple[int, ...], found: int, otherwise: int) -> Program:
    """Return `found` when the low word of an argument is one of `values`."""
    tests = [Instruction(_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [_argument(argument), *tests, _return(otherwise), _return(found)]


_DECIDED: dict[int, Callable[[], Program]] = {
    CLONE: _clone,
    # Its flags are behind a pointer, out of a filter's reach; libraries then use clone.
    CLONE3: lambda: _refuse(errno.ENOSYS),
    SOCKET: lambda: _one_of(0, _FAMILIES, RET_ALLOW, RET_ERRNO | errno.EAFNOSUPPORT),
    IOCTL: lambda: _one_of(1, _TERMINAL_INPUT, RET_ERRNO | errno.EPERM, RET_ALLOW),
    PERSONALITY: lambda: _one_of(0, _PERSONALITIES, RET_ALLOW, RET_ERRNO | errno.EPERM),
}


def _segments() -> list[tuple[int, Program]]:
    """(first number, what to do from there on), in rising order and with neighbours merged."""
    allowed, refused = set(ALLOWED.values()), set(REFUSED.values())
    segments: list[tuple[int, Program]] = []
    for number in range(max(allowed | refused | set(_DECIDED)) + 2):
        if number in _DECIDED:
            action = _DECIDED[number]()
        elif number in allowed:
            action = [_return(RET_ALLOW)]
        else:
            action = _refuse(errno.EPERM if number in refused else errno.ENOSYS)
        if not segments or segments[-1][1] != action:
            segments.append((number, action))
    # The x32 numbers are another table for the same calls: a way around any list.
    return [*segments, (X32_BIT, [_return(RET_KILL_PROCESS)])]


def _search(segments: list[tuple[int, Program]]) -> Program:
    """A binary search that jumps forward only. A conditional jump reaches 255 instructions: a longer one takes two."""
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    left, right = _search(segments[:middle]), _search(segments[middle:])
    if len(left) <= 255:
        return [Instruction(_AT_LEAST, len(left), 0, segments[middle][0]), *left, *right]
    jump = [Instruction(_AT_LEAST, 0, 1, segments[middle][0]), Instruction(_JUMP, 0, 0, len(left))]
    return [*jump, *left, *right]
