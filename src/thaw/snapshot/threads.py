"""A stopped thread becomes a signal frame for rt_sigreturn, and the few calls that no frame carries."""

from __future__ import annotations

import os
import struct
from typing import Final

from thaw.errors import NotFreezable
from thaw.snapshot.cpu import extended_state_layout
from thaw.snapshot.plan import PlannedThread, PlanWriter, Program
from thaw.snapshot.process import own_number, read_text
from thaw.snapshot.program import OPTIONAL, SYSTEM_CALLS, Variable
from thaw.snapshot.ptrace import Registers, StoppedProcess, TracedThread, signed

_NONE: Final = 0xFFFF_FFFF_FFFF_FFFF
# include/linux/errno.h: what a system call that a stop interrupted shows, and means
_RESTART: Final = (-512, -513, -514)
_RESTART_BLOCK: Final = -516
_EINTR: Final = 4
# Calls with a relative time that may simply be made again: they wait once more for the whole time, which no program can
# tell from a slow machine. An EINTR that no signal explains is something programs do get wrong.
_REPEATABLE: Final = {7, 23, 35, 202, 230, 232, 270, 271, 281, 441, 449}
# Calls that end with EINTR when the thread is stopped, without any signal (signal(7), "Interruption of system calls ...
# by stop signals"): read, write, accept, sendto, recvfrom, sendmsg, recvmsg (sockets with a time-out), semop,
# rt_sigtimedwait, io_getevents, semtimedop, epoll_wait, epoll_pwait, accept4, recvmmsg, io_pgetevents, epoll_pwait2.
_STOPPED_WITH_EINTR: Final = {0, 1, 43, 44, 45, 46, 47, 65, 128, 208, 220, 232, 281, 288, 299, 333, 441}
# arch/x86/include/uapi/asm/{sigcontext,ucontext}.h
_FP_XSTATE_MAGIC1: Final = 0x46505853
_FP_XSTATE_MAGIC2: Final = 0x46505845
_UC_FLAGS: Final = 0x1 | 0x2 | 0x4  # UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
_CONTEXT_ORDER: Final = [
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
    "rdi",
    "rsi",
    "rbp",
    "rbx",
    "rdx",
    "rax",
    "rcx",
    "rsp",
    "rip",
    "eflags",
]
_FUTEX_TID_MASK: Final = 0x3FFF_FFFF
_ROBUST_LIST_LIMIT: Final = 2048  # include/linux/futex.h: where the kernel stops, too
_SOFTWARE_BYTES: Final = 464  # offset of struct _fpx_sw_bytes
_STATE_BITS: Final = 512  # offset of XSTATE_BV
_ARCH_SET_GS, _ARCH_SET_FS = 0x1001, 0x1002
_PR_SET_NAME, _PR_GET_TID_ADDRESS, _PR_SET_TIMERSLACK = 15, 40, 29
_DEFAULT_TIMER_SLACK: Final = 50_000  # ns


def resumable(registers: Registers, *, signalled: bool = False) -> Registers:
    """The registers with which a thread that was stopped inside a system call goes on as if nothing had happened.

    `signalled`: a signal that the thread does not block waits for it. Then something has happened, and a call that
    never goes on after a handler shows EINTR.
    """
    call, value = signed(registers["orig_rax"]), signed(registers["rax"])
    if call < 0 or not -516 <= value < 0:
        return dict(registers)
    again = value in _RESTART or (value == _RESTART_BLOCK and call in _REPEATABLE)
    again |= value == -_EINTR and call in _STOPPED_WITH_EINTR
    if again and not (signalled and value in (_RESTART_BLOCK, -_EINTR)):
        return dict(registers) | {"rip": registers["rip"] - 2, "rax": call}
    if value == _RESTART_BLOCK:
        return dict(registers) | {"rax": -_EINTR & _NONE}
    return dict(registers)


def _signalled(thread: TracedThread) -> bool:
    """Whether a signal is about to be delivered to the thread."""
    waiting = thread.pending_signals(shared=False) + thread.pending_signals(shared=True)
    blocked = thread.signal_mask()
    return any(not blocked >> (struct.unpack_from("=i", each)[0] - 1) & 1 for each in waiting)


def outside_rseq(process: StoppedProcess, registers: Registers, area: int) -> Registers:
    """Send a thread that was stopped inside a restartable sequence to its abort handler, as the kernel would."""
    if not area:
        return registers
    (section,) = struct.unpack("=Q", process.read(area + 8, 8))
    if not section:
        return registers
    _, _, start, length, abort = struct.unpack("=IIQQQ", process.read(section, 32))
    if start <= registers["rip"] < start + length:
        return registers | {"rip": abort}
    return registers


def extended_state(area: bytes) -> bytes:
    """The XSAVE area as rt_sigreturn wants it, closing magic included.

    AMX tiles are left out: they are empty at every system call of a correct program, and a thread's area only grows
    to hold them on first use.
    """
    mask, size = extended_state_layout()
    state = bytearray(area[:size].ljust(size, b"\0"))
    (present,) = struct.unpack_from("=Q", state, _STATE_BITS)
    struct.pack_into("=Q", state, _STATE_BITS, present & mask)
    struct.pack_into("=IIQI", state, _SOFTWARE_BYTES, _FP_XSTATE_MAGIC1, size + 4, mask, size)
    return bytes(state) + struct.pack("=I", _FP_XSTATE_MAGIC2)


def _signal_frame(plan: PlanWriter, thread: TracedThread, registers: Registers, alternate: tuple[int, int, int]) -> int:
    floating = plan.allocate(extended_state(thread.extended_state()), 64)
    context = struct.pack("=QQQiIQ", _UC_FLAGS, 0, alternate[0], alternate[1], 0, alternate[2])
    context += struct.pack("=18Q", *(registers[name] & _NONE for name in _CONTEXT_ORDER))
    context += struct.pack("=4H", registers["cs"], 0, 0, registers["ss"])
    context += struct.pack("=5Q", 0, 0, 0, 0, floating) + bytes(64)  # err, trapno, oldmask, cr2, fpstate
    context += struct.pack("=Q", thread.signal_mask())
    # rt_sigreturn takes the frame to begin 8 bytes below rsp: the slot of the return address into the trampoline.
    return plan.allocate(bytes(8) + context, 16) + 8


def _alternate_stack(process: StoppedProcess, thread: TracedThread) -> tuple[int, int, int]:
    data = process.system_call_out(thread, 24, SYSTEM_CALLS["sigaltstack"], 0, None)
    pointer, flags, _, size = struct.unpack("=QiIQ", data)
    return pointer, flags & ~1, size  # SS_ONSTACK is a report, not a setting


def tid_address(process: StoppedProcess, thread: TracedThread) -> int:
    """Where the kernel clears, and the C library keeps, the thread's number."""
    data = process.system_call_out(thread, 8, SYSTEM_CALLS["prctl"], _PR_GET_TID_ADDRESS, None)
    return int(struct.unpack("=Q", data)[0])


def _robust_list(tid: int, process: StoppedProcess, thread: TracedThread) -> tuple[int, int]:
    data = process.system_call_out(thread, 16, 274, 0, None, (thread.registers["rsp"] - 4096 & ~63) + 8)
    head, length = struct.unpack("=QQ", data)
    return head, length


def _robust_words(process: StoppedProcess, head: int) -> list[int]:
    """Addresses of the futex words of the robust mutexes on a list (struct robust_list_head, get_robust_list(2))."""
    entry, offset, _ = struct.unpack("=QqQ", process.read(head, 24))
    words: list[int] = []
    while entry & ~1 != head and len(words) < _ROBUST_LIST_LIMIT:  # bit 0 marks mutexes with priority inheritance
        words.append((entry & ~1) + offset)
        (entry,) = struct.unpack("=Q", process.read(entry & ~1, 8))
    return words


def _rename_owner(process: StoppedProcess, program: Program, head: int, number: int) -> None:
    """The main thread's number changes: its robust mutexes get the new one, in the word and in glibc's owner field.

    Who waits for such a mutex finds the word changed, and asks for it again.
    """
    for word in _robust_words(process, head):
        value, _, owner = struct.unpack("=III", process.read(word, 12))
        if value & _FUTEX_TID_MASK == number:
            program.call("gettid", result=Variable(word))
            if owner == number:
                program.call("gettid", result=Variable(word + 8))


def _identity(plan: PlanWriter, program: Program, *, main: bool) -> None:
    """Give up the user and group of the template. The main thread does so last, in the `surrender` program."""
    if main:
        return
    uid, gid = plan.parameter("uid"), plan.parameter("gid")
    program.call("setresgid", gid, gid, gid)
    program.call("setresuid", uid, uid, uid)


def _scheduling(plan: PlanWriter, program: Program, tid: int) -> None:
    nice = os.getpriority(os.PRIO_PROCESS, tid)
    if nice:
        program.call("setpriority", 0, 0, nice, flags=OPTIONAL)
    affinity = os.sched_getaffinity(tid)
    if affinity != os.sched_getaffinity(0):
        mask = sum(1 << cpu for cpu in affinity).to_bytes(128, "little")
        program.call("sched_setaffinity", 0, len(mask), plan.allocate(mask), flags=OPTIONAL)
    slack = int(read_text(f"/proc/{tid}/timerslack_ns"))
    if slack != _DEFAULT_TIMER_SLACK:
        program.call("prctl", _PR_SET_TIMERSLACK, slack, flags=OPTIONAL)


def _registrations(plan: PlanWriter, process: StoppedProcess, thread: TracedThread, program: Program) -> None:
    address = tid_address(process, thread)
    program.call("set_tid_address", address)
    head, length = _robust_list(thread.tid, process, thread)
    if head:
        program.call("set_robust_list", head, length)
        if thread is process.main:
            _rename_owner(process, program, head, own_number(thread.tid))
    area, size, signature = thread.rseq()
    if area:
        program.call("rseq", area, size, 0, signature)


def plan_thread(plan: PlanWriter, process: StoppedProcess, thread: TracedThread) -> PlannedThread:
    """The steps and the frame that bring one thread back.

    Raises:
        NotFreezable: the thread runs 32-bit code.
    """
    main = thread is process.main
    name = read_text(f"/proc/{process.pid}/task/{thread.tid}/comm").rstrip("\n")
    if thread.registers["cs"] != 0x33:
        raise NotFreezable(
            f"Thread {name!r} runs 32-bit code, which cannot be frozen: build the function for x86-64.",
            resource="thread",
            number=own_number(thread.tid),
        )
    registers = resumable(thread.registers, signalled=_signalled(thread))
    registers = outside_rseq(process, registers, thread.rseq()[0])
    program = plan.program()
    program.call("prctl", _PR_SET_NAME, plan.text(name))
    _scheduling(plan, program, thread.tid)
    _registrations(plan, process, thread, program)
    alternate = _alternate_stack(process, thread)
    program.call("arch_prctl", _ARCH_SET_FS, registers["fs_base"])
    if registers["gs_base"]:
        program.call("arch_prctl", _ARCH_SET_GS, registers["gs_base"])
    _identity(plan, program, main=main)
    frame = _signal_frame(plan, thread, registers, alternate)
    return PlannedThread(0 if main else own_number(thread.tid), frame, program)
