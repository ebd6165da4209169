"""The seccomp program, run by a small interpreter of classic BPF, call by call."""

from __future__ import annotations

import errno
import struct

import pytest

from thaw.environment import seccomp
from thaw.environment.seccomp import AUDIT_ARCH_X86_64, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, compile_filter
from thaw.environment.seccomp_list import ALLOWED, CLONE, CLONE3, IOCTL, PERSONALITY, REFUSED, SOCKET

PROGRAM = compile_filter()
EPERM, ENOSYS = RET_ERRNO | errno.EPERM, RET_ERRNO | errno.ENOSYS


def decide(number: int, *arguments: int, architecture: int = AUDIT_ARCH_X86_64) -> int:
    """What the kernel would return for a call."""
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, architecture, 0, *words)
    accumulator, place = 0, 0
    while True:
        operation, when_true, when_false, operand = PROGRAM[place]
        place += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, operand)[0]
        elif operation == 0x06:
            return operand
        elif operation == 0x05:
            place += operand
        else:
            met = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}[
                operation
            ]
            place += when_true if met else when_false


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_allowed(name: str) -> None:
    assert decide(ALLOWED[name]) == RET_ALLOW


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name: str) -> None:
    assert decide(REFUSED[name]) == EPERM


def test_every_other_number_does_not_exist() -> None:
    known = {*ALLOWED.values(), *REFUSED.values(), CLONE, CLONE3, SOCKET, IOCTL, PERSONALITY}
    assert {decide(number) for number in range(2048) if number not in known} == {ENOSYS}


def test_lists_do_not_overlap() -> None:
    assert not set(ALLOWED.values()) & set(REFUSED.values())
    assert len(set(ALLOWED.values())) == len(ALLOWED)


@pytest.mark.parametrize(
    "name", ["ptrace", "mount", "setns", "unshare", "bpf", "keyctl", "userfaultfd", "io_uring_setup"]
)
def test_the_dangerous_ones_are_on_the_list(name: str) -> None:
    assert name in REFUSED


@pytest.mark.parametrize(
    "name",
    [
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "sigaltstack",
        "arch_prctl",
        "rt_sigreturn",
        "rt_sigprocmask",
        "futex",
        "munmap",
        "exit",
        "exit_group",
        "membarrier",
        "prctl",
        "get_robust_list",
    ],
)
def test_what_a_restorer_needs_after_the_filter_is_on(name: str) -> None:
    assert name in ALLOWED


def test_clone_makes_threads_but_no_namespaces() -> None:
    threads = 0x003D0F00
    assert decide(CLONE, threads) == RET_ALLOW
    assert decide(CLONE, 17) == RET_ALLOW
    for bit in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decide(CLONE, threads | bit) == EPERM
    assert decide(CLONE3) == ENOSYS


def test_socket_families() -> None:
    assert [decide(SOCKET, family) for family in (1, 2, 10, 16)] == [RET_ALLOW] * 4
    for family in (17, 38, 40):  # packet, alg, vsock
        assert decide(SOCKET, family) == RET_ERRNO | errno.EAFNOSUPPORT


def test_nobody_types_into_a_terminal() -> None:
    assert decide(IOCTL, 0, 0x5412) == EPERM
    assert decide(IOCTL, 0, 0x541C) == EPERM
    assert decide(IOCTL, 0, 0x5401) == RET_ALLOW


def test_personality_can_be_asked_but_not_changed_much() -> None:
    assert decide(PERSONALITY, 0xFFFFFFFF) == RET_ALLOW
    assert decide(PERSONALITY, 0x0400000) == EPERM  # READ_IMPLIES_EXEC


def test_other_tables_of_calls_are_no_way_around() -> None:
    assert decide(0, architecture=0x40000003) == RET_KILL_PROCESS
    assert decide(0x40000000 | ALLOWED["read"]) == RET_KILL_PROCESS


def test_encoding() -> None:
    code = seccomp.function_filter()
    assert len(code) == 8 * len(PROGRAM)
    assert struct.unpack_from("<HBBI", code) == tuple(PROGRAM[0])
    assert len(PROGRAM) < 4096  # the kernel's limit
