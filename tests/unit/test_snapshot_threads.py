"""With which registers a stopped thread goes on."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from thaw.snapshot import threads
from thaw.snapshot.cpu import extended_state_layout
from thaw.snapshot.ptrace import _REGISTERS, StoppedProcess, TracedThread

MASK = (1 << 64) - 1
READ, SELECT, FUTEX, CONNECT, EPOLL_WAIT, SIGTIMEDWAIT = 0, 23, 202, 42, 232, 128
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK, EINTR, ETIMEDOUT = 512, 513, 514, 516, 4, 110


def stopped(call: int, result: int) -> dict[str, int]:
    return {**dict.fromkeys(_REGISTERS, 7), "rip": 0x1002, "orig_rax": call & MASK, "rax": result & MASK}


def shown(call: int, result: int, *, signalled: bool = False) -> tuple[int, int]:
    """Distance of the instruction pointer, and rax as a signed number."""
    after = threads.resumable(stopped(call, result), signalled=signalled)
    value = after["rax"]
    assert {name: after[name] for name in after if name not in ("rip", "rax")} == {
        name: value for name, value in stopped(call, result).items() if name not in ("rip", "rax")
    }
    return after["rip"] - 0x1002, value - (1 << 64) if value >> 63 else value


@pytest.mark.parametrize("result", [-ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND])
def test_an_interrupted_call_is_made_again(result: int) -> None:
    assert shown(READ, result) == (-2, READ)


@pytest.mark.parametrize("call", [7, 23, 35, FUTEX, 230, EPOLL_WAIT, 270, 271])
def test_a_call_with_a_time_out_waits_anew(call: int) -> None:
    assert shown(call, -ERESTART_RESTARTBLOCK) == (-2, call)


def test_a_restart_block_of_another_call_shows_an_interruption() -> None:
    assert shown(CONNECT, -ERESTART_RESTARTBLOCK) == (0, -EINTR)


@pytest.mark.parametrize("call", [EPOLL_WAIT, SIGTIMEDWAIT, READ])
def test_an_interruption_that_no_signal_explains_is_not_shown(call: int) -> None:
    assert shown(call, -EINTR) == (-2, call)
    assert shown(call, -EINTR, signalled=True) == (0, -EINTR)


def test_an_interrupted_connect_is_not_made_again() -> None:
    assert shown(CONNECT, -EINTR) == (0, -EINTR)


def test_a_signal_under_way_ends_a_wait_but_not_a_restartable_call() -> None:
    assert shown(FUTEX, -ERESTART_RESTARTBLOCK, signalled=True) == (0, -EINTR)
    assert shown(READ, -ERESTARTSYS, signalled=True) == (-2, READ)


@pytest.mark.parametrize("result", [0, 5, -ETIMEDOUT, -517, -4095])
def test_a_finished_call_keeps_its_result(result: int) -> None:
    assert shown(FUTEX, result) == (0, result)


def test_a_thread_outside_of_any_call_is_left_alone() -> None:
    assert shown(-1, -ERESTARTSYS) == (0, -ERESTARTSYS)


class Memory:
    """A process of which only memory is read."""

    def __init__(self, contents: dict[int, bytes]) -> None:
        self._contents = contents

    def read(self, address: int, size: int) -> bytes:
        return self._contents[address][:size]


def moved(position: int, area: int = 0x100, *, section: int = 0x200) -> int:
    descriptor = struct.pack("=IIQQQ", 0, 0, 0x5000, 0x20, 0x9000)  # struct rseq_cs: from 0x5000, 0x20 bytes, abort
    memory: Any = Memory({0x108: struct.pack("=Q", section), 0x200: descriptor})
    process: StoppedProcess = memory
    return threads.outside_rseq(process, {"rip": position}, area)["rip"]


def test_a_restartable_sequence_is_aborted() -> None:
    assert [moved(0x5000), moved(0x501F)] == [0x9000, 0x9000]
    assert [moved(0x4FFF), moved(0x5020)] == [0x4FFF, 0x5020]
    assert moved(0x5000, section=0) == 0x5000
    assert moved(0x5000, area=0) == 0x5000


def test_the_frame_s_floating_state_is_marked_as_the_kernel_wants_it() -> None:
    mask, size = extended_state_layout()
    area = bytearray(16384)
    struct.pack_into("=Q", area, 512, mask | 1 << 18)  # with AMX tiles, which are left out
    state = threads.extended_state(bytes(area))
    assert len(state) == size + 4
    assert struct.unpack_from("=IIQI", state, 464) == (0x46505853, size + 4, mask, size)
    assert struct.unpack_from("=Q", state, 512) == (mask,)
    assert struct.unpack_from("=I", state, size) == (0x46505845,)


class FakeThread(TracedThread):
    """A thread that holds nothing but registers."""

    def extended_state(self) -> bytes:
        return bytes(4096)

    def signal_mask(self) -> int:
        return 0xABCDEF


def test_the_frame_is_laid_out_as_the_kernel_reads_it() -> None:
    """struct ucontext: sigcontext at 40, its fpstate at 40 + 184, the signal mask at 40 + 256."""
    plan = threads.PlanWriter()
    registers = dict(zip(_REGISTERS, range(1000, 1000 + len(_REGISTERS)), strict=True)) | {"cs": 0x33, "ss": 0x2B}
    frame = threads._signal_frame(plan, FakeThread(1), registers, (0x7000, 0, 8192))
    data = bytes(plan._data)[frame - 0x5100_0000_0000 :]
    assert frame % 16 == 8
    assert struct.unpack_from("=QQQiIQ", data) == (7, 0, 0x7000, 0, 0, 8192)
    assert struct.unpack_from("=Q", data, 40 + 16 * 8)[0] == registers["rip"]
    assert struct.unpack_from("=4H", data, 40 + 144) == (0x33, 0, 0, 0x2B)
    (floating,) = struct.unpack_from("=Q", data, 40 + 184)
    assert floating % 64 == 0
    assert struct.unpack_from("=I", bytes(plan._data), floating - 0x5100_0000_0000 + 464) == (0x46505853,)
    assert struct.unpack_from("=Q", data, 40 + 256) == (0xABCDEF,)
