"""Freezing: from a function that waits in restore/next to the parts of its snapshot."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from typing import Any, Final

from thaw.errors import FreezeFailed, NotFreezable
from thaw.snapshot.cpu import cpu_flags, vdso_digest
from thaw.snapshot.descriptors import plan_descriptors
from thaw.snapshot.descriptors.context import Context
from thaw.snapshot.descriptors.table import DescriptorTable
from thaw.snapshot.disk import pack_folder
from thaw.snapshot.image import ImageWriter
from thaw.snapshot.memory import MemoryPlanner, special_mappings
from thaw.snapshot.plan import SPECIAL_LIMIT, THREAD_LIMIT, Kept, PlanContent, PlanWriter, Program
from thaw.snapshot.process import Mapping, Status, children, read_mappings, read_status, read_text
from thaw.snapshot.program import OPTIONAL, SYSTEM_CALLS
from thaw.snapshot.ptrace import StoppedProcess
from thaw.snapshot.shared_files import NamelessFiles
from thaw.snapshot.signals import plan_actions, plan_pending
from thaw.snapshot.system_v import refuse_system_v
from thaw.snapshot.threads import plan_thread, tid_address
from thaw.snapshot.timers import plan_interval_timers, plan_posix_timers

_SYSCALL_INSTRUCTION: Final = b"\x0f\x05"
_LOWEST_BASE: Final = 64  # descriptors that a template keeps begin here at least
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 24, 38, 4
_PR_GET_THP_DISABLE, _PR_SET_THP_DISABLE = 42, 41
_PR_GET_CHILD_SUBREAPER, _PR_SET_CHILD_SUBREAPER = 37, 36
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_MEMBARRIER_GET_REGISTRATIONS: Final = 1 << 9
_ARCH_GET_XCOMP_PERM, _ARCH_REQ_XCOMP_PERM, _AMX = 0x1022, 0x1023, 18
_RLIMITS: Final = range(16)
_TMP: Final = "/tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeTarget:
    """What to freeze."""

    pid: int
    """The function's process, in our pid namespace."""
    sandbox_pid: int = 0
    """PID 1 of its sandbox, in our pid namespace; 0: do not look for orphans there."""
    connection_port: int = 0
    """Local port of the runtime connection, which every clone gets anew; 0: there is none."""
    log: tuple[int, int] = (0, 0)
    """Device and inode of the pipe (or file) that is the function's log."""


@dataclass(frozen=True, slots=True)
class Capture:
    """The parts of a snapshot; `memory` is a memfd that the caller closes."""

    plan: bytes
    memory: int
    memory_size: int
    disk: bytes
    facts: dict[str, Any]


def freeze(target: FreezeTarget) -> Capture:
    """Stop the function's process and take everything that a clone needs; it is left stopped at its last instruction.

    Call it from one thread. The process goes on afterwards, but the caller ends it: it lives on only in its clones.

    Raises:
        NotFreezable: the process holds something that has no way back; the sentence names it.
        FreezeFailed: the process ended, or may not be traced.
    """
    begun = time.monotonic()
    _refuse_children(target)
    refuse_system_v(target.pid)
    memory, clone_memory = os.memfd_create("thaw-memory-image"), os.memfd_create("thaw-clone-image")
    try:
        with StoppedProcess(target.pid) as process, DescriptorTable(target.pid) as table:
            plan, size, facts = _Freezer(target, process, table, memory, clone_memory).run()
            disk = pack_folder(f"/proc/{target.pid}/root{_TMP}")
    except BaseException:
        os.close(memory)
        raise
    finally:
        os.close(clone_memory)
    facts["freeze_seconds"] = round(time.monotonic() - begun, 4)
    return Capture(plan, memory, size, disk, facts)


def _refuse_children(target: FreezeTarget) -> None:
    found = children(target.pid)
    if target.sandbox_pid:
        found += [child for child in children(target.sandbox_pid) if child != target.pid]
    for child in found:
        name = read_text(f"/proc/{child}/comm").strip()
        raise NotFreezable(
            f"The function has a child process {name!r}, and process trees cannot be frozen yet: "
            "end it, and wait for it, in a before-snapshot hook.",
            resource="process",
            number=read_status(child).numbers[-1],
        )


def _find_instruction(process: StoppedProcess, mappings: list[Mapping]) -> bytes:
    """Find a `syscall` instruction in the vDSO; the vDSO's bytes."""
    vdso = next((mapping for mapping in mappings if mapping.path == "[vdso]"), None)
    if vdso is None:
        raise FreezeFailed("The function's process has no vDSO, which Thaw needs: boot the kernel without vdso=0.")
    data = process.read(vdso.start, vdso.size)
    process.use_instruction(vdso.start + data.index(_SYSCALL_INSTRUCTION))
    return data


class _Freezer:
    """One run of `freeze`: holds the programs while the planners fill them."""

    def __init__(
        self, target: FreezeTarget, process: StoppedProcess, table: DescriptorTable, memory: int, clone_memory: int
    ) -> None:
        self._target = target
        self._process = process
        self._table = table
        self._plan = PlanWriter()
        self._build, self._settle, self._enter, self._surrender = (self._plan.program() for _ in range(4))
        self._kept = Kept(max(_LOWEST_BASE, table.highest + 1))
        self._image = ImageWriter(memory)
        self._clone_image = ImageWriter(clone_memory)
        self._nameless = NamelessFiles(self._plan, self._clone_image, self._kept, self._enter)

    def run(self) -> tuple[bytes, int, dict[str, Any]]:
        """The plan, the bytes of the memory image, and the facts."""
        process, plan = self._process, self._plan
        mappings, status = read_mappings(process.pid), read_status(process.pid)
        vdso = _find_instruction(process, mappings)
        special = self._check_limits(mappings)
        memory = self._plan_memory(mappings, status)
        self._plan_process(status)
        threads = [plan_thread(plan, process, thread) for thread in process.threads]
        self._plan_surrender()
        content = PlanContent(
            kept=self._kept, special=special, threads=threads, tid_address=tid_address(process, process.main),
            extents=memory.extents, lazy=memory.lazy,
            image_base=self._image.append_all(self._clone_image),
            build=self._build, settle=self._settle, enter=self._enter, surrender=self._surrender,
        )  # fmt: skip
        facts = self._facts(mappings, status, special, vdso)
        facts["clone_offset"] = content.image_base
        return plan.finish(content), self._image.size, facts

    def _check_limits(self, mappings: list[Mapping]) -> list[tuple[int, int]]:
        special = special_mappings(mappings)
        if len(special) > SPECIAL_LIMIT:
            raise FreezeFailed(f"This kernel has {len(special)} mappings of its own, Thaw knows up to {SPECIAL_LIMIT}.")
        if len(self._process.threads) > THREAD_LIMIT:
            count = len(self._process.threads)
            raise NotFreezable(
                f"The function has {count} threads, more than the {THREAD_LIMIT} that a snapshot may hold: "
                "end some in a before-snapshot hook.",
                resource="threads",
            )
        return special

    def _plan_memory(self, mappings: list[Mapping], status: Status) -> MemoryPlanner:
        memory = MemoryPlanner(
            plan=self._plan, process=self._process, image=self._image, clone_image=self._clone_image, kept=self._kept,
            build=self._build, settle=self._settle, enter=self._enter, nameless=self._nameless,
        )  # fmt: skip
        plan_actions(self._plan, self._process, self._build)
        memory.plan_mappings(mappings)
        memory.plan_layout(status)
        return memory

    def _plan_process(self, status: Status) -> None:
        """What belongs to the whole process and is made in each clone."""
        pid, enter, plan = self._process.pid, self._enter, self._plan
        # A session and group of its own: in the template's, kill(0, ...) would reach every other clone.
        enter.call("setsid")
        folder = _working_folder(pid)
        enter.call("chdir", plan.text(folder), label=f"chdir to {folder}")
        enter.call("umask", 0)
        own = status.numbers[-1]
        log, port = self._target.log, self._target.connection_port
        plan_descriptors(Context(plan, enter, self._kept, self._table, self._nameless, pid, own, port, log))
        enter.call("umask", status.umask)
        self._plan_limits(enter)
        self._plan_controls(enter)
        enter.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, label="PR_SET_NO_NEW_PRIVS")
        for capability in range(int(read_text("/proc/sys/kernel/cap_last_cap")) + 1):
            enter.call("prctl", _PR_CAPBSET_DROP, capability, label="PR_CAPBSET_DROP")
        enter.call("setgroups", 0, 0)

    def _plan_limits(self, enter: Program) -> None:
        # Asked inside the process: from outside it takes CAP_SYS_RESOURCE, which root in a container may lack.
        process = self._process
        for which in _RLIMITS:
            record = process.system_call_out(process.main, 16, SYSTEM_CALLS["prlimit64"], 0, which, 0, None)
            enter.call("prlimit64", 0, which, self._plan.allocate(record), 0, label=f"limit {which}")

    def _plan_controls(self, enter: Program) -> None:
        """Settings of prctl(2), arch_prctl(2) and membarrier(2) that a new process does not have by itself."""
        process, main = self._process, self._process.main
        if process.system_call(main, SYSTEM_CALLS["prctl"], _PR_GET_THP_DISABLE) > 0:
            enter.call("prctl", _PR_SET_THP_DISABLE, 1, 0, 0, 0, label="PR_SET_THP_DISABLE")
        subreaper = process.system_call_out(main, 4, SYSTEM_CALLS["prctl"], _PR_GET_CHILD_SUBREAPER, None)
        if any(subreaper):
            enter.call("prctl", _PR_SET_CHILD_SUBREAPER, 1, label="PR_SET_CHILD_SUBREAPER")
        registered = process.system_call(main, SYSTEM_CALLS["membarrier"], _MEMBARRIER_GET_REGISTRATIONS)
        for command in (1 << bit for bit in range(12)):
            if registered > 0 and registered & command:
                enter.call("membarrier", command, 0, 0, flags=OPTIONAL)
        permitted = process.system_call_out(main, 8, SYSTEM_CALLS["arch_prctl"], _ARCH_GET_XCOMP_PERM, None)
        if int.from_bytes(permitted, "little") >> _AMX & 1:
            enter.call("arch_prctl", _ARCH_REQ_XCOMP_PERM, _AMX, flags=OPTIONAL)

    def _plan_surrender(self) -> None:
        """The last steps; after the filter the clone does nothing but let its threads go."""
        plan, surrender = self._plan, self._surrender
        plan_posix_timers(plan, self._process, surrender)
        plan_interval_timers(plan, self._process, surrender)
        uid, gid = plan.parameter("uid"), plan.parameter("gid")
        surrender.call("setresgid", gid, gid, gid)
        surrender.call("setresuid", uid, uid, uid)
        surrender.call("prctl", _PR_SET_DUMPABLE, 1, label="PR_SET_DUMPABLE")
        plan_pending(plan, self._process, surrender)
        surrender.call("close_range", self._kept.control, 0xFFFF_FFFF, 0)
        arguments = (_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, plan.filter_program)
        surrender.call("seccomp", *arguments, label="seccomp")

    def _facts(
        self, mappings: list[Mapping], status: Status, special: list[tuple[int, int]], vdso: bytes
    ) -> dict[str, Any]:
        """What a worker must check before it restores, and what people want to know (docs/formats.md)."""
        first = special[0][0]
        return {
            "architecture": platform.machine(),
            "kernel": platform.release(),
            "vdso_sha256": vdso_digest(vdso),
            "special": [[address - first, size] for address, size in special],
            "cpu_flags": cpu_flags(),
            "process": status.name,
            "process_number": status.numbers[-1],
            "thread_numbers": [read_status(thread.tid).numbers[-1] for thread in self._process.threads],
            "threads": [read_text(f"/proc/{thread.tid}/comm").rstrip("\n") for thread in self._process.threads],
            "mappings": len(mappings),
            "mapped_files": _mapped_files(self._process.pid, mappings),
            "descriptors": [[file.first, file.link] for file in self._table.files],
            "memory_bytes": self._image.size,
        }


def _working_folder(pid: int) -> str:
    folder = os.readlink(f"/proc/{pid}/cwd")
    if not os.stat(f"/proc/{pid}/cwd").st_nlink:
        name = folder.removesuffix(" (deleted)")
        raise NotFreezable(
            f"The function's working folder {name} was removed, so it cannot be frozen: "
            "change to another one in a before-snapshot hook."
        )
    return folder


def _mapped_files(pid: int, mappings: list[Mapping]) -> list[list[Any]]:
    """Path, size in bytes and time of change in ns of every file that the template will map again."""
    paths = sorted({m.path for m in mappings if not m.anonymous and not m.special and not m.deleted and m.inode})
    found: list[list[Any]] = []
    for path in paths:
        if path.startswith(("/tmp/", "/memfd:", "/SYSV")):
            continue
        status = os.stat(f"/proc/{pid}/root{path}")
        found.append([path, status.st_size, status.st_mtime_ns])
    return found
