"""Stopping the threads of another process, reading their registers, and running system calls inside them.

Everything here must be called from one thread: the kernel knows a tracer by its thread (ptrace(2)).
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from dataclasses import dataclass, field

from thaw.errors import FreezeFailed

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

# include/uapi/linux/ptrace.h
_CONT, _SINGLESTEP, _GETREGS, _SETREGS, _DETACH = 7, 9, 12, 13, 17
_GETREGSET, _SEIZE, _INTERRUPT, _PEEKSIGINFO = 0x4204, 0x4206, 0x4207, 0x4209
_GETSIGMASK, _RSEQ_CONFIGURATION = 0x420A, 0x420F
_EVENT_STOP = 128
_PEEK_SHARED = 1
_NT_X86_XSTATE = 0x202
_WALL = 0x40000000
_SIGINFO_SIZE = 128
_XSTATE_LIMIT = 16384  # bytes; larger than any XSAVE area so far (11008 with AMX)

_REGISTERS = [
    "r15",
    "r14",
    "r13",
    "r12",
    "rbp",
    "rbx",
    "r11",
    "r10",
    "r9",
    "r8",
    "rax",
    "rcx",
    "rdx",
    "rsi",
    "rdi",
    "orig_rax",
    "rip",
    "cs",
    "eflags",
    "rsp",
    "ss",
    "fs_base",
    "gs_base",
    "ds",
    "es",
    "fs",
    "gs",
]
_NONE = 0xFFFF_FFFF_FFFF_FFFF
Registers = dict[str, int]


def _call(request: int, tid: int, address: int = 0, data: object = None) -> int:
    result: int = _ptrace(request, tid, ctypes.c_void_p(address), data)
    if result < 0:
        error = ctypes.get_errno()
        raise FreezeFailed(
            f"Thread {tid} could not be traced (ptrace request {request:#x}: {os.strerror(error)}): "
            "it ended meanwhile, or this machine forbids ptrace."
        )
    return result


def signed(value: int) -> int:
    """The 64-bit value as a signed number."""
    return value - (1 << 64) if value >> 63 else value


@dataclass(slots=True)
class TracedThread:
    """One stopped thread; registers as they were when it stopped."""

    tid: int
    registers: Registers = field(default_factory=dict)

    def read_registers(self) -> Registers:
        """General registers by name (struct user_regs_struct)."""
        buffer = (ctypes.c_ulong * len(_REGISTERS))()
        _call(_GETREGS, self.tid, 0, buffer)
        return dict(zip(_REGISTERS, buffer, strict=True))

    def write_registers(self, registers: Registers) -> None:
        """Set all general registers."""
        values = (registers[name] & _NONE for name in _REGISTERS)
        _call(_SETREGS, self.tid, 0, (ctypes.c_ulong * len(_REGISTERS))(*values))

    def extended_state(self) -> bytes:
        """The XSAVE area in standard form, as the kernel gives it (NT_X86_XSTATE)."""
        buffer = ctypes.create_string_buffer(_XSTATE_LIMIT)
        vector = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), _XSTATE_LIMIT)
        _call(_GETREGSET, self.tid, _NT_X86_XSTATE, vector)
        return buffer.raw[: vector[1]]

    def signal_mask(self) -> int:
        """Blocked signals, bit n-1 for signal n."""
        mask = (ctypes.c_ulong * 1)()
        _call(_GETSIGMASK, self.tid, 8, mask)
        return int(mask[0])

    def rseq(self) -> tuple[int, int, int]:
        """Address, size and signature of the registered rseq area; zeros where none is or the kernel is before 5.13."""
        buffer = ctypes.create_string_buffer(24)
        if _ptrace(_RSEQ_CONFIGURATION, self.tid, ctypes.c_void_p(24), buffer) < 0:
            return 0, 0, 0
        address, size, signature = struct.unpack_from("=QII", buffer.raw)
        return address, size, signature

    def pending_signals(self, *, shared: bool) -> list[bytes]:
        """siginfo (128 bytes) of each pending signal: of the process if `shared`, else of this thread."""
        found: list[bytes] = []
        while True:
            arguments = struct.pack("=QIi", len(found), _PEEK_SHARED if shared else 0, 1)
            request = ctypes.create_string_buffer(arguments, len(arguments))
            buffer = ctypes.create_string_buffer(_SIGINFO_SIZE)
            count = _ptrace(_PEEKSIGINFO, self.tid, ctypes.addressof(request), buffer)
            if count <= 0:
                return found
            found.append(buffer.raw)

    def system_call(self, instruction: int, number: int, *arguments: int) -> int:
        """Run one system call inside the thread, at the address of a `syscall` instruction; its signed result."""
        registers = dict(self.registers)
        registers |= {"rip": instruction, "rax": number, "orig_rax": _NONE}
        padded = (*arguments, 0, 0, 0, 0, 0, 0)
        registers |= dict(zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), padded, strict=False))
        self.write_registers(registers)
        _call(_SINGLESTEP, self.tid)
        _wait_for_stop(self.tid)
        return signed(self.read_registers()["rax"])


def _wait_for_stop(tid: int) -> int:
    _, status = os.waitpid(tid, _WALL)
    if not os.WIFSTOPPED(status):
        raise FreezeFailed(f"Thread {tid} ended while it was being stopped: the function exited before its snapshot.")
    return status


def _stop(tid: int) -> TracedThread:
    """Interrupt a seized thread; signals that arrive first are delivered as if nobody looked."""
    _call(_INTERRUPT, tid)
    while True:
        status = _wait_for_stop(tid)
        if status >> 16 == _EVENT_STOP:
            break
        _call(_CONT, tid, 0, ctypes.c_void_p(os.WSTOPSIG(status)))
    thread = TracedThread(tid)
    thread.registers = thread.read_registers()
    return thread


def _threads_of(pid: int) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except FileNotFoundError as error:
        raise FreezeFailed(
            f"Process {pid} ended before its snapshot: look at the function's log for its last words."
        ) from error


class StoppedProcess:
    """All threads of a process, stopped; the main thread first. A context manager: leaving it lets them go on."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.threads: list[TracedThread] = []
        self._memory = -1
        self._instruction = 0

    def __enter__(self) -> StoppedProcess:
        """Stop every thread, also those that are born meanwhile."""
        self._memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        known: set[int] = set()
        while new := [tid for tid in _threads_of(self.pid) if tid not in known]:
            for tid in new:
                known.add(tid)
                _call(_SEIZE, tid)
                self.threads.append(_stop(tid))
        self.threads.sort(key=lambda thread: thread.tid != self.pid)
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self.threads:
            _ptrace(_SETREGS, thread.tid, None, (ctypes.c_ulong * len(_REGISTERS))(*thread.registers.values()))
            _ptrace(_DETACH, thread.tid, None, None)
        os.close(self._memory)

    @property
    def main(self) -> TracedThread:
        """The thread whose number is the process's."""
        return self.threads[0]

    def read(self, address: int, size: int) -> bytes:
        """Memory of the process; shorter than `size` only at the end of a mapping."""
        return os.pread(self._memory, size, address)

    def write(self, address: int, data: bytes) -> None:
        """Write memory of the process, also where it is read-only."""
        os.pwrite(self._memory, data, address)

    def memory_descriptor(self) -> int:
        """The open /proc/PID/mem."""
        return self._memory

    def use_instruction(self, address: int) -> None:
        """Name a `syscall` instruction (0f 05) in the process; `system_call` needs one."""
        self._instruction = address

    def system_call(self, thread: TracedThread, number: int, *arguments: int) -> int:
        """Run a system call in a thread; its signed result."""
        return thread.system_call(self._instruction, number, *arguments)

    def system_call_out(self, thread: TracedThread, size: int, number: int, *arguments: int | None) -> bytes:
        """Run a system call that fills `size` bytes; None among the arguments stands for their address.

        The bytes lie below the thread's stack pointer and its red zone, and are put back.

        Raises:
            FreezeFailed: the call failed.
        """
        area = (thread.registers["rsp"] - 4096) & ~63
        saved = self.read(area, size)
        self.write(area, bytes(size))
        result = self.system_call(thread, number, *(area if argument is None else argument for argument in arguments))
        data = self.read(area, size)
        self.write(area, saved)
        if -4095 <= result < 0:
            raise FreezeFailed(f"System call {number} inside thread {thread.tid} failed: {os.strerror(-result)}.")
        return data


def kill(pid: int) -> None:
    """End a stopped or running process; nothing where it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
