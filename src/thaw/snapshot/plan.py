"""The restore plan in bytes: data that steps point to, programs, threads, and the header (native/plan.h).

A plan is mapped at `PLAN_ADDRESS`, so every pointer in it is known while it is being written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from thaw.snapshot.image import Extent
from thaw.snapshot.process import PAGE
from thaw.snapshot.program import STEP_SIZE, SYSTEM_CALLS, Argument, Step, Variable

MAGIC: Final = 0x4E414C5057414854  # "THAWPLAN", little-endian
VERSION: Final = 3
PLAN_ADDRESS: Final = 0x5100_0000_0000
RESERVED: Final = range(0x5000_0000_0000, 0x5300_0000_0000)
"""Addresses that a function may not use: the template's own code, the plan, and room to move the vDSO."""
ADDRESS_END: Final = 0x7FFF_FFFF_F000
SPECIAL_LIMIT: Final = 8
THREAD_LIMIT: Final = 1024
RELATIVE_LIMIT: Final = 1024
KEPT_COUNT: Final = 6  # enum kept_descriptor

_PROGRAM = struct.Struct("=QQ")
_PAIR = struct.Struct("=QQ")
_EXTENT = struct.Struct("=QQQ")
_THREAD = struct.Struct("=iIQ")
_PARAMETERS = struct.Struct("=IIIiQ")
_RELATIVE = struct.Struct("=5iIQQ")
_TREE = struct.Struct("=QQiIQQ")
_FRONT = struct.Struct("=QIIQII")
_BACK = struct.Struct("=8Q")
_SIZE_FIELD: Final = 16  # offset of the plan's size
_MEMORY_TABLES: Final = _FRONT.size + SPECIAL_LIMIT * _PAIR.size + 4 * 8  # offset of address and count of both tables
HEADER_SIZE: Final = _FRONT.size + SPECIAL_LIMIT * _PAIR.size + _BACK.size + 5 * _PROGRAM.size + _TREE.size


@dataclass(slots=True)
class Kept:
    """Descriptors that a template keeps; they and the scratch numbers lie above all of the function's.

    `base` is the first number (enum kept_descriptor in native/plan.h).
    """

    base: int
    _used: int = KEPT_COUNT

    @property
    def memory(self) -> int:
        """The memory image."""
        return self.base + 1

    @property
    def connection(self) -> int:
        """The new runtime connection."""
        return self.base + 3

    @property
    def log(self) -> int:
        """The new log."""
        return self.base + 4

    @property
    def control(self) -> int:
        """The template's control socket, the lowest of all."""
        return self.base

    @property
    def first_scratch(self) -> int:
        """The lowest number that `scratch` gives."""
        return self.base + KEPT_COUNT

    def scratch(self) -> int:
        """A new number that a program may use until it closes everything from `first_scratch` on."""
        self._used += 1
        return self.base + self._used - 1


class Program:
    """A list of steps, in order, of one plan."""

    def __init__(self, plan: PlanWriter) -> None:
        self._plan = plan
        self._steps: list[Step] = []

    def __len__(self) -> int:
        return len(self._steps)

    def call(
        self, name: str, *arguments: Argument, label: str = "", flags: int = 0, result: Variable | None = None
    ) -> None:
        """Add the named system call; `label` is what an error will say (default: the call's name)."""
        offset = self._plan.text(label or name) - PLAN_ADDRESS
        self._steps.append(Step(SYSTEM_CALLS[name], arguments, flags, offset, result))

    def hold(self, name: str, *arguments: Argument, kept: Kept, label: str = "") -> int:
        """Add a system call that gives a descriptor; the number above all of the function's that it is moved to."""
        opened = self._plan.variable()
        self.call(name, *arguments, label=label, result=opened)
        return self.move_up(opened, kept)

    def move_up(self, opened: Variable, kept: Kept) -> int:
        """Move a descriptor above all of the function's; its new number."""
        number = kept.scratch()
        self.call("dup3", opened, number, os.O_CLOEXEC)
        self.call("close", opened)
        return number

    def encode(self, image_base: int) -> bytes:
        """All steps, one after the other; `image_base` is where the clones' part of the memory image begins."""
        return b"".join(step.encode(image_base) for step in self._steps)


@dataclass(frozen=True, slots=True)
class PlannedThread:
    """A thread of the plan: its number (0: the main thread), address of its signal frame, and its own program."""

    tid: int
    frame: int
    program: Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """Another process of the function's tree (struct relative): numbers as in the sandbox, `plan` its own plan, empty
    where it has ended with `status`; `group` is the process group that it joins when all are there (0: none)."""

    number: int
    parent: int
    exit_signal: int
    status: int = 0
    group: int = 0
    flags: int = 0
    plan: bytes = b""


@dataclass(slots=True, kw_only=True)
class PlanContent:
    """What a plan is made of besides its data.

    `special` are address and size of the kernel's own mappings, ascending, the vDSO last; `tid_address` is where the C
    library keeps the main thread's number (0: nowhere); `lazy` are ranges (address, size) of memory that a clone can
    do without at first; `image_base` is where the clones' part of the memory image begins. `share` and what follows
    is for the first process of a tree only: `go_between` is a process number that nobody in it has.
    """

    kept: Kept
    special: Sequence[tuple[int, int]]
    threads: Sequence[PlannedThread]
    tid_address: int
    extents: Sequence[Extent]
    lazy: Sequence[tuple[int, int]]
    image_base: int
    build: Program
    settle: Program
    enter: Program
    surrender: Program
    share: Program | None = None
    relatives: Sequence[Relative] = ()
    go_between: int = 0
    kept_memory: Sequence[tuple[int, int]] = ()
    """Ranges (address, size), ascending, that a relative keeps of the memory of the first process."""


class PlanWriter:
    """Collects data and steps; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._data = bytearray(HEADER_SIZE)
        self._texts: dict[str, int] = {}
        self.parameters = self.allocate(bytes(_PARAMETERS.size), 8)
        """Address of struct parameters, which the template fills in for each clone."""

    def allocate(self, data: bytes, alignment: int = 8) -> int:
        """Put data into the plan; its absolute address."""
        self._data.extend(bytes(-len(self._data) % alignment))
        offset = len(self._data)
        self._data.extend(data)
        return PLAN_ADDRESS + offset

    def text(self, text: str) -> int:
        """Absolute address of a NUL-terminated text; the same text is kept once."""
        if text not in self._texts:
            self._texts[text] = self.allocate(text.encode() + b"\0", 1)
        return self._texts[text]

    def variable(self, value: int = -1) -> Variable:
        """A new variable."""
        return Variable(self.allocate(struct.pack("=i", value), 4))

    def parameter(self, name: str) -> Variable:
        """A variable that the template fills in: "uid", "gid" or "pid"."""
        return Variable(self.parameters + {"uid": 0, "gid": 4, "pid": 12}[name])

    @property
    def filter_program(self) -> int:
        """Address of the struct sock_fprog that the template fills in."""
        return self.parameters + 8

    def program(self) -> Program:
        """A new, empty program."""
        return Program(self)

    def finish(self, content: PlanContent) -> bytes:
        """The whole plan."""

        def place(program: Program) -> bytes:
            address = self.allocate(program.encode(content.image_base), STEP_SIZE)
            return _PROGRAM.pack(address, len(program))

        programs = b"".join(place(each) for each in (content.build, content.settle, content.enter, content.surrender))
        programs += place(content.share) if content.share is not None else _PROGRAM.pack(0, 0)
        entries = b"".join(_THREAD.pack(each.tid, 0, each.frame) + place(each.program) for each in content.threads)
        threads = self.allocate(entries)
        front = _FRONT.pack(MAGIC, VERSION, HEADER_SIZE, 0, content.kept.base, len(content.special))
        pairs = b"".join(_PAIR.pack(*pair) for pair in content.special).ljust(SPECIAL_LIMIT * _PAIR.size, b"\0")
        back = _BACK.pack(threads, len(content.threads), content.tid_address, self.parameters, 0, 0, 0, 0)
        relatives = b"".join(map(self._place_relative, content.relatives))
        kept = self.allocate(b"".join(_PAIR.pack(*each) for each in content.kept_memory))
        numbers = (len(content.relatives), content.go_between, 0, kept, len(content.kept_memory))
        tree = _TREE.pack(self.allocate(relatives), *numbers)
        self._data[:HEADER_SIZE] = front + pairs + back + programs + tree
        return with_memory(bytes(self._data), content.extents, content.lazy)

    def _place_relative(self, relative: Relative) -> bytes:
        """Its plan lies on pages of its own, because they are moved to where its pointers want them."""
        size = -(-len(relative.plan) // PAGE) * PAGE
        address = self.allocate(relative.plan.ljust(size, b"\0"), PAGE) if size else 0
        numbers = (relative.number, relative.parent, relative.exit_signal, relative.status, relative.group)
        return _RELATIVE.pack(*numbers, relative.flags, address, size)


def with_memory(plan: bytes, extents: Sequence[Extent], lazy: Sequence[tuple[int, int]]) -> bytes:
    """The plan with other extents and lazy ranges (address, size); the memory image must be laid out to match."""
    data = bytearray(plan)
    data.extend(bytes(-len(data) % 8))
    places = []
    packed = b"".join(_EXTENT.pack(each.address, each.size, each.offset) for each in extents)
    for table, count in ((packed, len(extents)), (b"".join(_PAIR.pack(*each) for each in lazy), len(lazy))):
        places += [PLAN_ADDRESS + len(data), count]
        data.extend(table)
    struct.pack_into("=4Q", data, _MEMORY_TABLES, *places)
    struct.pack_into("=Q", data, _SIZE_FIELD, len(data))
    return bytes(data)


def memory_of(plan: bytes) -> tuple[list[Extent], list[tuple[int, int]]]:
    """Extents and lazy ranges of a plan."""
    extents, extent_count, lazy, lazy_count = struct.unpack_from("=4Q", plan, _MEMORY_TABLES)
    start = extents - PLAN_ADDRESS
    found = _EXTENT.iter_unpack(plan[start : start + extent_count * _EXTENT.size])
    start = lazy - PLAN_ADDRESS
    ranges = _PAIR.iter_unpack(plan[start : start + lazy_count * _PAIR.size])
    return [Extent(*each) for each in found], [(address, size) for address, size in ranges]
