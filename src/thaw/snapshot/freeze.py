"""Freezing: from a function that waits in restore/next to the parts of its snapshot."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from thaw.errors import NotFreezable
from thaw.snapshot.cpu import cpu_flags, vdso_digest
from thaw.snapshot.descriptors import plan_descriptors
from thaw.snapshot.descriptors.context import Context, Place
from thaw.snapshot.descriptors.table import DescriptorTable
from thaw.snapshot.disk import pack_folder
from thaw.snapshot.image import ImageWriter
from thaw.snapshot.plan import Kept, Relative
from thaw.snapshot.process import read_status, read_text
from thaw.snapshot.process_plan import ProcessPlan
from thaw.snapshot.randomness import unknown_generators
from thaw.snapshot.shared_files import NamelessFiles
from thaw.snapshot.system_v import refuse_system_v
from thaw.snapshot.tree import Member, Tree, go_between, kinship, stop_tree
from thaw.snapshot.users import Owners

_LOWEST_BASE: Final = 64  # descriptors that a template keeps begin here at least
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
    repeated: Mapping[str, str] = field(default_factory=dict)
    """Further connections that wait for an answer, by local port: what a clone asks its own Runtime API once more."""
    reseed: bool = True
    """Whether Python's and numpy's global generators in child processes get fresh states in each clone."""


@dataclass(frozen=True, slots=True)
class Capture:
    """The parts of a snapshot; `memory` is a memfd that the caller closes."""

    plan: bytes
    memory: int
    memory_size: int
    disk: bytes
    facts: dict[str, Any]


def freeze(target: FreezeTarget) -> Capture:
    """Stop the function's processes and take everything that a clone needs; each is left stopped at its last
    instruction.

    Call it from one thread. The processes go on afterwards, but the caller ends them: they live on only in clones.

    Raises:
        NotFreezable: a process holds something that has no way back; the sentence names it.
        FreezeFailed: a process ended, or may not be traced.
    """
    begun = time.monotonic()
    refuse_system_v(target.pid)
    memory, clone_memory = os.memfd_create("thaw-memory-image"), os.memfd_create("thaw-clone-image")
    try:
        with ExitStack() as stack:
            tree = stop_tree(target.pid, target.sandbox_pid, stack)
            table = stack.enter_context(DescriptorTable(*(process.pid for process in tree.processes)))
            plan, size, facts = _Freezer(target, tree, table, memory, clone_memory).run()
            disk = pack_folder(f"/proc/{target.pid}/root{_TMP}", Owners.of(target.pid))
    except BaseException:
        os.close(memory)
        raise
    finally:
        os.close(clone_memory)
    facts["freeze_seconds"] = round(time.monotonic() - begun, 4)
    return Capture(plan, memory, size, disk, facts)


class _Freezer:
    """One run of `freeze`: holds the plans while the planners fill them."""

    def __init__(
        self, target: FreezeTarget, tree: Tree, table: DescriptorTable, memory: int, clone_memory: int
    ) -> None:
        self._target = target
        self._tree = tree
        self._table = table
        self._kept = Kept(max(_LOWEST_BASE, table.highest + 1))
        self._image = ImageWriter(memory)
        self._clone_image = ImageWriter(clone_memory)
        self._plans: list[ProcessPlan] = []
        """Of every process that lives, the function's first."""

    def run(self) -> tuple[bytes, int, dict[str, Any]]:
        """The plan, the bytes of the memory image, and the facts."""
        for member, process in zip(self._living(), self._tree.processes, strict=True):
            with self._named(member):
                self._plans.append(ProcessPlan(process, self._kept))
        first = self._plans[0]
        # In a tree, what processes share is made before the first one forks the others.
        share = first.plan.program() if len(self._tree.members) > 1 else first.enter
        # A session and group of its own: in the template's, kill(0, ...) would reach every other clone.
        share.call("setsid")
        first.plan_folder(share)
        nameless = NamelessFiles(first.plan, self._clone_image, self._kept, share)
        self._plan_memories(nameless)
        places = [Place(each.process.pid, each.number, each.plan, each.enter, each.surrender) for each in self._plans]
        repeated = {int(port): request.encode() for port, request in self._target.repeated.items()}
        context = Context(
            first.plan, share, places, self._kept, self._table, nameless, self._target.connection_port, repeated,
            self._target.log,
        )  # fmt: skip
        plan_descriptors(context, first.surrender)
        for member, each in zip(self._living(), self._plans, strict=True):
            with self._named(member):
                each.plan_process()
                if len(self._tree.members) > 1:
                    is_root = member is self._tree.root
                    each.plan_randomness(python=self._target.reseed and not is_root)
                each.plan_rights()
        image_base = self._image.append_all(self._clone_image)
        content = first.content(image_base)
        if len(self._tree.members) > 1:
            content.share, content.go_between = share, go_between(self._tree)
            content.lazy = ()  # children are born with this memory, so it has to be there
            content.relatives = self._relatives(image_base)
        facts = self._facts()
        facts["clone_offset"] = image_base
        return first.plan.finish(content), self._image.size, facts

    def _living(self) -> list[Member]:
        return [member for member in self._tree.members if not member.ended]

    @contextmanager
    def _named(self, member: Member) -> Iterator[None]:
        """What a child process has that cannot be frozen is said of the child."""
        try:
            yield
        except NotFreezable as refusal:
            if member is self._tree.root:
                raise
            who = f"Child process {member.number} ({member.name!r})"
            sentence = str(refusal).replace("The function", who, 1)
            raise NotFreezable(sentence, resource="process", number=member.number) from refusal

    def _plan_memories(self, nameless: NamelessFiles) -> None:
        for member, each in zip(self._living(), self._plans, strict=True):
            with self._named(member):
                if member is self._tree.root:
                    each.plan_memory(self._image, self._clone_image, nameless)
                else:
                    each.plan_folder(each.enter)
                    each.plan_memory(self._clone_image, self._clone_image, nameless, self._plans[0])

    def _relatives(self, image_base: int) -> list[Relative]:
        plans = {each.process.pid: each for each in self._plans}
        return [self._relative(member, plans.get(member.pid), image_base) for member in self._tree.members[1:]]

    def _relative(self, member: Member, planned: ProcessPlan | None, image_base: int) -> Relative:
        kin = kinship(self._tree, member)
        plan = b""
        if planned is not None:
            with self._named(member):
                content = planned.content(image_base)
            content.extents = [replace(each, offset=image_base + each.offset) for each in content.extents]
            content.lazy = ()
            plan = planned.plan.finish(content)
        return Relative(
            number=member.number, parent=member.parent, exit_signal=member.exit_signal, status=member.status,
            group=kin.group, flags=kin.flags, plan=plan,
        )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        """What a worker must check before it restores, and what people want to know (docs/formats.md)."""
        first = self._plans[0]
        start = first.special[0][0]
        return {
            "architecture": platform.machine(),
            "kernel": platform.release(),
            "clocks": {
                "monotonic": time.clock_gettime_ns(time.CLOCK_MONOTONIC),
                "boottime": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            },
            "vdso_sha256": vdso_digest(first.vdso),
            "special": [[address - start, size] for address, size in first.special],
            "cpu_flags": cpu_flags(),
            "process": first.status.name,
            "process_number": first.status.numbers[-1],
            "thread_numbers": [read_status(thread.tid).numbers[-1] for thread in first.process.threads],
            "threads": [read_text(f"/proc/{thread.tid}/comm").rstrip("\n") for thread in first.process.threads],
            "mappings": len(first.mappings),
            "mapped_files": _mapped_files(self._plans),
            "descriptors": [[file.first, file.link] for file in self._table.files],
            "memory_bytes": self._image.size,
            "relatives": [[each.number, each.parent, each.name, each.state] for each in self._tree.members[1:]],
            "renewed_generators": [
                [each.number, generator.kind] for each in self._plans for generator in each.generators
            ],
            "unknown_generators": [
                [each.number, each.status.name, what]
                for each in self._plans[1:]
                for what in unknown_generators(os.readlink(f"/proc/{each.process.pid}/exe"), each.mappings)
            ],
        }


def _mapped_files(plans: Sequence[ProcessPlan]) -> list[list[Any]]:
    """Path, size in bytes and time of change in ns of every file that is mapped again."""
    pid = plans[0].process.pid
    mappings = [mapping for each in plans for mapping in each.mappings]
    paths = sorted({m.path for m in mappings if not m.anonymous and not m.special and not m.deleted and m.inode})
    found: list[list[Any]] = []
    for path in paths:
        if path.startswith(("/tmp/", "/memfd:", "/SYSV")):
            continue
        status = os.stat(f"/proc/{pid}/root{path}")
        found.append([path, status.st_size, status.st_mtime_ns])
    return found
