"""Mappings: most are built once in the template; those that clones may not share are made in each clone."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from thaw.errors import NotFreezable
from thaw.snapshot.image import Extent, ImageWriter
from thaw.snapshot.inheritance import Inheritance
from thaw.snapshot.layout import worthwhile
from thaw.snapshot.plan import ADDRESS_END, RESERVED, Kept, PlanWriter, Program
from thaw.snapshot.process import PAGE, Mapping, Status, guard_pages, present_pages
from thaw.snapshot.program import (
    OPTIONAL,
    RESULT_IS_ARG0,
    RESULT_IS_ARG2,
    SYSTEM_CALLS,
    Argument,
    ImageOffset,
    Variable,
)
from thaw.snapshot.ptrace import StoppedProcess
from thaw.snapshot.shared_files import NamelessFiles

_PROT_WRITE: Final = 2
_MADV_GUARD_INSTALL: Final = 102
_MAP_SHARED, _MAP_PRIVATE, _MAP_DROPPABLE = 1, 2, 8
_MAP_FIXED, _MAP_ANONYMOUS, _MAP_GROWSDOWN, _MAP_NORESERVE = 0x10, 0x20, 0x100, 0x4000
# VmFlags (Documentation/filesystems/proc.rst) and the madvise(2) value that sets each
_ADVICE: Final = {"rr": 1, "sr": 2, "dc": 10, "mg": 12, "hg": 14, "nh": 15, "dd": 16, "wf": 18}
_WIPED: Final = frozenset({"wf", "dp"})  # MADV_WIPEONFORK, MAP_DROPPABLE: empty after a fork, so empty in a clone
_IMPOSSIBLE: Final = {
    "ht": "huge pages of hugetlbfs",
    "io": "memory of a device",
    "pf": "memory of a device",
    "um": "memory watched by userfaultfd",
    "uw": "memory watched by userfaultfd",
    "ss": "a shadow stack",
}
_MEANINGFUL: Final = frozenset(_ADVICE) | {"gd", "nr", "lo", "dp", "sl"}
_PR_SET_MM, _PR_SET_MM_MAP = 35, 14


@dataclass(slots=True)
class MemoryPlanner:
    """Turns mappings into steps of `build` (in the template) or of `enter` (in each clone)."""

    plan: PlanWriter
    process: StoppedProcess
    image: ImageWriter
    """The template's part of the memory image."""
    clone_image: ImageWriter
    """The clones' part: contents that each clone reads for itself."""
    kept: Kept
    build: Program
    settle: Program
    enter: Program
    nameless: NamelessFiles
    inheritance: Inheritance | None = None
    """Where the process is born with another's memory: that."""
    inherited: list[tuple[int, int]] = field(default_factory=list)
    """Address and size of what it keeps of it, ascending."""
    extents: list[Extent] = field(default_factory=list)
    """Contents of the template's memory."""
    lazy: list[tuple[int, int]] = field(default_factory=list)
    """Address and size of those that a clone can be given later."""
    _file: Variable = field(init=False)
    _open_path: str = ""
    _open_program: Program | None = None

    def __post_init__(self) -> None:
        self._file = self.plan.variable()

    def plan_mappings(self, mappings: Iterable[Mapping]) -> None:
        """All mappings but the kernel's own.

        Raises:
            NotFreezable: one of them has no way back.
        """
        for mapping in merged(mapping for mapping in mappings if not mapping.special):
            _refuse_impossible(mapping)
            for rest in self._without_inherited(mapping):
                self._plan_mapping(rest)
        self._close_file()

    def _without_inherited(self, mapping: Mapping) -> Iterator[Mapping]:
        """What of a mapping is not there when the process is born; the rest is kept."""
        part = None if self.inheritance is None else self.inheritance.part(mapping)
        if part is None or self.inheritance is None:
            yield mapping
            return
        self._keep(part, self.inheritance)
        if part.end < mapping.end:
            yield replace(mapping, start=part.end)

    def _plan_mapping(self, mapping: Mapping) -> None:
        if mapping.shared and (mapping.deleted or mapping.path.startswith("/memfd:")):
            self._plan_nameless(mapping)
        elif mapping.anonymous or mapping.deleted:
            self._plan_anonymous(mapping, self.enter if "dc" in mapping.flags else self.build)
        else:
            late = mapping.path.startswith("/tmp/") or "dc" in mapping.flags
            self._plan_file(mapping, self.enter if late else self.build)

    def _keep(self, mapping: Mapping, inheritance: Inheritance) -> None:
        """It is there; what differs is read over it."""
        extents: list[Extent] = []
        for first, count in inheritance.pages(self.process.pid, mapping):
            address, size = mapping.start + first * PAGE, count * PAGE
            extents += self.image.store(address, size, self._read, inheritance.read)
        self.inherited.append((mapping.start, mapping.size))
        self.extents += extents
        if extents and not mapping.protection & _PROT_WRITE:
            self.build.call("mprotect", mapping.start, mapping.size, mapping.protection | _PROT_WRITE)
            self.settle.call("mprotect", mapping.start, mapping.size, mapping.protection)

    def _map(self, program: Program, mapping: Mapping, flags: int, descriptor: Argument, *, writable: bool) -> None:
        protection = mapping.protection | (_PROT_WRITE if writable else 0)
        label = f"mmap of {mapping.path or 'anonymous memory'}"
        arguments = (mapping.start, mapping.size, protection, flags | _MAP_FIXED, descriptor, mapping.offset)
        program.call("mmap", *arguments, label=label, flags=RESULT_IS_ARG0)

    def _advise(self, program: Program, mapping: Mapping) -> None:
        for flag in sorted(mapping.flags & _ADVICE.keys()):
            program.call("madvise", mapping.start, mapping.size, _ADVICE[flag], flags=OPTIONAL)

    def _finish(self, program: Program, mapping: Mapping, *, writable: bool) -> None:
        """Protection, after the contents are in; locks, which no fork inherits, are the clone's own affair."""
        after = self.settle if program is self.build else program
        if writable and not mapping.protection & _PROT_WRITE:
            after.call("mprotect", mapping.start, mapping.size, mapping.protection)
        for first, count in guard_pages(self.process.pid, mapping):
            after.call("madvise", mapping.start + first * PAGE, count * PAGE, _MADV_GUARD_INSTALL, flags=OPTIONAL)
        if "sl" in mapping.flags:
            after.call("mseal", mapping.start, mapping.size, 0, flags=OPTIONAL)
        if "lo" in mapping.flags:
            self.enter.call("mlock2", mapping.start, mapping.size, 1, flags=OPTIONAL)

    def _fill(self, program: Program, mapping: Mapping, runs: Iterable[tuple[int, int]]) -> None:
        """Store the contents; the template is filled through its table of extents, a clone by steps of its own."""
        image = self.image if program is self.build else self.clone_image
        # Fresh memory is zero; a page of a file is not, so that one that was overwritten with zeros has to be stored.
        there = None if mapping.anonymous or mapping.deleted else _nothing
        stored = (image.store(mapping.start + first * PAGE, count * PAGE, self._read, there) for first, count in runs)
        extents = [extent for found in stored for extent in found]
        if program is self.build:
            self.extents += extents
            if _can_come_late(mapping):
                self.lazy += worthwhile(extents)
            return
        for extent in extents:
            arguments = (self.kept.memory, extent.address, extent.size, ImageOffset(extent.offset))
            program.call("pread64", *arguments, label="reading the memory image", flags=RESULT_IS_ARG2)

    def _read(self, size: int, address: int) -> bytes:
        return self.process.read(address, size)

    def _plan_anonymous(self, mapping: Mapping, program: Program) -> None:
        flags = _MAP_ANONYMOUS | (_MAP_SHARED if mapping.shared else _MAP_PRIVATE)
        flags |= _MAP_GROWSDOWN if "gd" in mapping.flags else 0
        flags |= _MAP_NORESERVE if "nr" in mapping.flags else 0
        if "dp" in mapping.flags:
            flags = _MAP_ANONYMOUS | _MAP_DROPPABLE
        own = not mapping.deleted  # a deleted file's clean pages cannot be had from the file again
        runs = [] if mapping.flags & _WIPED else list(present_pages(self.process.pid, mapping, own=own))
        if mapping.deleted:
            runs = [(0, mapping.size // PAGE)]
        self._map(program, replace(mapping, offset=0), flags, -1, writable=bool(runs))
        self._advise(program, mapping)
        self._fill(program, mapping, runs)
        self._finish(program, mapping, writable=bool(runs))

    def _plan_file(self, mapping: Mapping, program: Program) -> None:
        runs = [] if mapping.shared else list(present_pages(self.process.pid, mapping, own=True))
        self._open_file(mapping, program)
        flags = _MAP_SHARED if mapping.shared else _MAP_PRIVATE
        self._map(program, mapping, flags, self._file, writable=bool(runs))
        self._advise(program, mapping)
        self._fill(program, mapping, runs)
        self._finish(program, mapping, writable=bool(runs))

    def _open_file(self, mapping: Mapping, program: Program) -> None:
        """Neighbours are mostly of one file, so it stays open until another is wanted."""
        if (self._open_path, self._open_program) == (mapping.path, program):
            return
        self._close_file()
        writable = mapping.shared and "mw" in mapping.flags
        mode = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        path = self.plan.text(mapping.path)
        program.call("open", path, mode, label=f"open of {mapping.path}", result=self._file)
        self._open_path, self._open_program = mapping.path, program

    def _close_file(self) -> None:
        if self._open_program is not None:
            self._open_program.call("close", self._file)
        self._open_path, self._open_program = "", None

    def _plan_nameless(self, mapping: Mapping) -> None:
        source = os.open(
            f"/proc/{self.process.pid}/map_files/{mapping.start:x}-{mapping.end:x}", os.O_RDONLY | os.O_CLOEXEC
        )
        try:
            held = self.nameless.descriptor(source, mapping.path)
        finally:
            os.close(source)
        self._map(self.enter, mapping, _MAP_SHARED, held, writable=False)
        self._advise(self.enter, mapping)
        self._finish(self.enter, mapping, writable=False)

    def plan_layout(self, status: Status) -> None:
        """Where code, data, heap, stack, arguments and environment lie, and what /proc/PID/exe names (prctl(2))."""
        pid, fields = self.process.pid, status.memory_fields
        heap_end = self.process.system_call(self.process.main, SYSTEM_CALLS["brk"], 0)
        with open(f"/proc/{pid}/auxv", "rb") as file:
            auxiliary = file.read()
        order = ("start_code", "end_code", "start_data", "end_data", "start_brk")
        rest = ("start_stack", "arg_start", "arg_end", "env_start", "env_end")
        values = [fields[name] for name in order] + [heap_end] + [fields[name] for name in rest]
        layout = struct.pack("=11QQIi", *values, self.plan.allocate(auxiliary), len(auxiliary), -1)
        address = self.plan.allocate(layout)
        executable = Variable(address + len(layout) - 4)  # the member exe_fd
        path = os.readlink(f"/proc/{pid}/exe")
        if self.inheritance is not None:  # whose executable it is, and that cannot be named anew while it is mapped
            self.build.call("prctl", _PR_SET_MM, _PR_SET_MM_MAP, address, len(layout), label="PR_SET_MM_MAP")
            return
        flags = os.O_RDONLY | os.O_CLOEXEC
        self.build.call("open", self.plan.text(path), flags, label=f"open of {path}", result=executable)
        self.build.call("prctl", _PR_SET_MM, _PR_SET_MM_MAP, address, len(layout), label="PR_SET_MM_MAP")
        self.build.call("close", executable)


def _nothing(size: int, address: int) -> bytes:
    return b""


def _can_come_late(mapping: Mapping) -> bool:
    """What userfaultfd can serve: private anonymous memory that stays writable (ioctl_userfaultfd(2))."""
    return (
        mapping.anonymous
        and not mapping.shared
        and bool(mapping.protection & _PROT_WRITE)
        and not mapping.flags & {"gd", "sl"}
    )


def merged(mappings: Iterable[Mapping]) -> Iterator[Mapping]:
    """Neighbouring anonymous mappings that the kernel keeps apart only by name or history, as one."""
    current: Mapping | None = None
    for mapping in mappings:
        if current is not None and _mergeable(current, mapping):
            current = replace(current, end=mapping.end, empty=current.empty and mapping.empty)
            continue
        if current is not None:
            yield current
        current = mapping
    if current is not None:
        yield current


def _mergeable(left: Mapping, right: Mapping) -> bool:
    def plain(mapping: Mapping) -> bool:
        return mapping.anonymous and mapping.path in ("", "[heap]") and not mapping.shared

    alike = left.permissions == right.permissions and left.flags & _MEANINGFUL == right.flags & _MEANINGFUL
    return alike and plain(left) and plain(right) and left.path == right.path and left.end == right.start


def _refuse_impossible(mapping: Mapping) -> None:
    where = f"at {mapping.start:#x}" + (f" ({mapping.path})" if mapping.path else "")
    for flag, what in _IMPOSSIBLE.items():
        if flag in mapping.flags:
            raise NotFreezable(
                f"The function maps {what} {where}, which cannot be frozen: release it in a before-snapshot hook."
            )
    if mapping.path.startswith("/SYSV"):
        raise NotFreezable(
            f"The function has a System V shared memory segment attached {where}, which cannot be frozen: "
            "detach it in a before-snapshot hook, or use mmap."
        )
    if mapping.path.startswith("/[aio]"):
        raise NotFreezable(
            f"The function has a context for asynchronous I/O (io_setup) {where}, which cannot be frozen: "
            "end it (io_destroy) in a before-snapshot hook."
        )
    if (mapping.start < RESERVED.stop and mapping.end > RESERVED.start) or mapping.end > ADDRESS_END:
        raise NotFreezable(
            f"The function has memory {where}, where Thaw restores snapshots from: let the kernel choose the address."
        )


def special_mappings(mappings: Iterable[Mapping]) -> list[tuple[int, int]]:
    """Address and size of [vvar], [vvar_vclock] and [vdso], ascending, the vDSO last."""
    own = [mapping for mapping in mappings if mapping.special and mapping.path != "[vsyscall]"]
    return [(mapping.start, mapping.size) for mapping in sorted(own, key=lambda mapping: mapping.start)]
