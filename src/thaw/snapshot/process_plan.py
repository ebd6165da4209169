"""The plan of one process: its memory, what belongs to it as a whole, its threads, and the rights that it gives up."""

from __future__ import annotations

import os
from typing import Final

from thaw.errors import FreezeFailed, NotFreezable
from thaw.snapshot.image import Extent, ImageWriter
from thaw.snapshot.inheritance import Inheritance, is_fork
from thaw.snapshot.memory import MemoryPlanner, merged, special_mappings
from thaw.snapshot.plan import SPECIAL_LIMIT, THREAD_LIMIT, Kept, PlanContent, PlanWriter, Program
from thaw.snapshot.process import Mapping, Status, read_mappings, read_status, read_text
from thaw.snapshot.program import OPTIONAL, SYSTEM_CALLS
from thaw.snapshot.ptrace import StoppedProcess
from thaw.snapshot.randomness import Generator, openssl_generators, plan_renewal, python_generators
from thaw.snapshot.shared_files import NamelessFiles
from thaw.snapshot.signals import plan_actions, plan_pending
from thaw.snapshot.threads import plan_thread, tid_address
from thaw.snapshot.timers import plan_interval_timers, plan_posix_timers

_SYSCALL_INSTRUCTION: Final = b"\x0f\x05"
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 24, 38, 4
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2
_PR_GET_THP_DISABLE, _PR_SET_THP_DISABLE = 42, 41
_PR_GET_CHILD_SUBREAPER, _PR_SET_CHILD_SUBREAPER = 37, 36
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_MEMBARRIER_GET_REGISTRATIONS: Final = 1 << 9
_ARCH_GET_XCOMP_PERM, _ARCH_REQ_XCOMP_PERM, _AMX = 0x1022, 0x1023, 18
_RLIMITS: Final = range(16)


class ProcessPlan:
    """One stopped process on its way into a plan.

    Call `plan_memory`, `plan_process`, `plan_rights` in this order, with the descriptors planned into `enter` in
    between; `content` is then what `PlanWriter.finish` takes. A child's memory is read from the clones' part of the
    image, the function's own from the template's part.
    """

    def __init__(self, process: StoppedProcess, kept: Kept) -> None:
        self.process = process
        self.status: Status = read_status(process.pid)
        self.mappings: list[Mapping] = read_mappings(process.pid)
        self.plan = PlanWriter()
        self.build, self.settle, self.enter, self.surrender = (self.plan.program() for _ in range(4))
        self.extents: list[Extent] = []
        self.lazy: list[tuple[int, int]] = []
        self.inherited: list[tuple[int, int]] = []
        self.generators: list[Generator] = []
        self._kept = kept
        self.vdso = self._find_instruction()
        self.special = self._check_limits()

    @property
    def number(self) -> int:
        """The process's own number, as it is told."""
        return self.status.numbers[-1]

    def _find_instruction(self) -> bytes:
        """Find a `syscall` instruction in the vDSO; the vDSO's bytes."""
        vdso = next((mapping for mapping in self.mappings if mapping.path == "[vdso]"), None)
        if vdso is None:
            raise FreezeFailed("The function's process has no vDSO, which Thaw needs: boot the kernel without vdso=0.")
        data = self.process.read(vdso.start, vdso.size)
        self.process.use_instruction(vdso.start + data.index(_SYSCALL_INSTRUCTION))
        return data

    def _check_limits(self) -> list[tuple[int, int]]:
        special = special_mappings(self.mappings)
        if len(special) > SPECIAL_LIMIT:
            raise FreezeFailed(f"This kernel has {len(special)} mappings of its own, Thaw knows up to {SPECIAL_LIMIT}.")
        if len(self.process.threads) > THREAD_LIMIT:
            count = len(self.process.threads)
            raise NotFreezable(
                f"The function has {count} threads, more than the {THREAD_LIMIT} that a snapshot may hold: "
                "end some in a before-snapshot hook.",
                resource="threads",
            )
        return special

    def plan_memory(
        self, image: ImageWriter, clone_image: ImageWriter, nameless: NamelessFiles, first: ProcessPlan | None = None
    ) -> None:
        """Mappings and signal actions; `first` is the plan of the process with whose actions, and memory if it runs the
        same program, this one is born."""
        inheritance = None
        if first is not None and is_fork(self.process, self.status, first.process, first.status):
            inheritance = Inheritance(first.process, merged(each for each in first.mappings if not each.special))
        memory = MemoryPlanner(
            plan=self.plan, process=self.process, image=image, clone_image=clone_image, kept=self._kept,
            build=self.build, settle=self.settle, enter=self.enter, nameless=nameless,
            inheritance=inheritance,
        )  # fmt: skip
        plan_actions(self.plan, self.process, self.build, inherited=first is not None)
        memory.plan_mappings(self.mappings)
        memory.plan_layout(self.status)
        self.extents, self.lazy, self.inherited = memory.extents, memory.lazy, memory.inherited

    def plan_folder(self, program: Program) -> None:
        """The working folder, and a mask under which files get the mode that they are made with."""
        folder = _working_folder(self.process.pid)
        program.call("chdir", self.plan.text(folder), label=f"chdir to {folder}")
        program.call("umask", 0)

    def plan_process(self) -> None:
        """What belongs to the whole process, after its descriptors are there."""
        enter = self.enter
        enter.call("umask", self.status.umask)
        self._plan_limits(enter)
        self._plan_controls(enter)
        enter.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, label="PR_SET_NO_NEW_PRIVS")
        for capability in range(int(read_text("/proc/sys/kernel/cap_last_cap")) + 1):
            enter.call("prctl", _PR_CAPBSET_DROP, capability, label="PR_CAPBSET_DROP")
        enter.call("setgroups", 0, 0)

    def plan_randomness(self, *, python: bool) -> None:
        """Fresh randomness for the generators that would not notice that the process was cloned; `python` says whether
        also for those of Python and numpy."""
        where = (self.process.pid, self.mappings)
        self.generators = openssl_generators(*where, self.process.read, self.number)
        if python:
            self.generators += python_generators(*where, self.process.read)
        plan_renewal(self.generators, self.enter)

    def _plan_limits(self, enter: Program) -> None:
        # Asked inside the process: from outside it takes CAP_SYS_RESOURCE, which root in a container may lack.
        process = self.process
        for which in _RLIMITS:
            record = process.system_call_out(process.main, 16, SYSTEM_CALLS["prlimit64"], 0, which, 0, None)
            enter.call("prlimit64", 0, which, self.plan.allocate(record), 0, label=f"limit {which}")

    def _plan_controls(self, enter: Program) -> None:
        """Settings of prctl(2), arch_prctl(2) and membarrier(2) that a new process does not have by itself."""
        process, main = self.process, self.process.main
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

    def plan_rights(self) -> None:
        """The last steps; after the filter the clone does nothing but let its threads go."""
        plan, surrender, process = self.plan, self.surrender, self.process
        plan_posix_timers(plan, process, surrender)
        plan_interval_timers(plan, process, surrender)
        uid, gid = plan.parameter("uid"), plan.parameter("gid")
        surrender.call("setresgid", gid, gid, gid)
        surrender.call("setresuid", uid, uid, uid)
        surrender.call("prctl", _PR_SET_DUMPABLE, 1, label="PR_SET_DUMPABLE")
        at_end = process.system_call_out(process.main, 4, SYSTEM_CALLS["prctl"], _PR_GET_PDEATHSIG, None)
        if any(at_end):  # which another user's number takes away, so it comes after
            surrender.call("prctl", _PR_SET_PDEATHSIG, int.from_bytes(at_end, "little"), label="PR_SET_PDEATHSIG")
        plan_pending(plan, process, surrender)
        surrender.call("close_range", self._kept.control, 0xFFFF_FFFF, 0)
        arguments = (_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, plan.filter_program)
        surrender.call("seccomp", *arguments, label="seccomp")

    def content(self, image_base: int) -> PlanContent:
        """Everything of this process; `image_base` is where the clones' part of the image begins."""
        threads = [plan_thread(self.plan, self.process, thread) for thread in self.process.threads]
        return PlanContent(
            kept=self._kept, special=self.special, threads=threads,
            tid_address=tid_address(self.process, self.process.main), extents=self.extents, lazy=self.lazy,
            image_base=image_base, build=self.build, settle=self.settle, enter=self.enter, surrender=self.surrender,
            kept_memory=self.inherited,
        )  # fmt: skip


def _working_folder(pid: int) -> str:
    folder = os.readlink(f"/proc/{pid}/cwd")
    if not os.stat(f"/proc/{pid}/cwd").st_nlink:
        name = folder.removesuffix(" (deleted)")
        raise NotFreezable(
            f"The function's working folder {name} was removed, so it cannot be frozen: "
            "change to another one in a before-snapshot hook."
        )
    return folder
