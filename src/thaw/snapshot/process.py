"""What /proc says of a process: its mappings, limits and numbers (proc(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) (\S+) (\d+) *(.*)")
PAGE: Final = 4096
_GUARDED = re.compile(b"[%s]+" % re.escape(bytes(top for top in range(256) if top & 0x04)))


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of /proc/PID/smaps; `path` as the process's own mount namespace names it."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: str
    flags: frozenset[str]
    empty: bool = False
    """Whether none of its pages is in memory or swapped out."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def protection(self) -> int:
        """PROT_ bits."""
        return sum(bit for letter, bit in zip("rwx", (1, 2, 4), strict=True) if letter in self.permissions)

    @property
    def shared(self) -> bool:
        """Whether it is MAP_SHARED (also a read-only one: VmFlags `ms`/`sh` tell what the letter does)."""
        return self.permissions[3] == "s"

    @property
    def special(self) -> bool:
        """Whether it is the kernel's own: [vvar], [vvar_vclock], [vdso], [vsyscall]."""
        return self.path.startswith(("[vvar", "[vdso", "[vsyscall"))

    @property
    def anonymous(self) -> bool:
        """Whether no file is behind it."""
        return not self.inode and (not self.path or self.path.startswith("["))

    @property
    def deleted(self) -> bool:
        """Whether the file behind it has no name any more."""
        return self.path.endswith(" (deleted)")


def _parse_mapping(line: str, flags: frozenset[str], held_kib: int) -> Mapping:
    found = _MAPPING.match(line)
    assert found is not None, line
    start, end, permissions, offset, device, inode, path = found.groups()
    begin, stop = int(start, 16), int(end, 16)
    return Mapping(begin, stop, permissions, int(offset, 16), device, int(inode), path, flags, held_kib == 0)


def read_mappings(pid: int) -> list[Mapping]:
    """All mappings in ascending order, with their VmFlags."""
    mappings: list[Mapping] = []
    head, held_kib = "", 0
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("VmFlags:"):
                mappings.append(_parse_mapping(head, frozenset(line.split()[1:]), held_kib))
            elif line.startswith(("Rss:", "Swap:")):
                held_kib += int(line.split()[1])
            elif _MAPPING.match(line):
                head, held_kib = line.rstrip("\n"), 0
    return mappings


def present_pages(pid: int, mapping: Mapping, *, own: bool) -> Iterator[tuple[int, int]]:
    """Runs (first page, count) of pages that hold something; one that guards others (bit 58) looks swapped out.

    With `own`, only those that belong to the process and no longer to the file (bit 61 of /proc/PID/pagemap is
    clear: Documentation/admin-guide/mm/pagemap.rst). What is known to be empty is not walked: ZGC of Java 11 reserves
    17 TiB of addresses, which would take minutes.
    """
    if mapping.empty:
        return
    batch = 1 << 15
    start: int | None = None
    count = mapping.size // PAGE
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        for base in range(0, count, batch):
            size = min(batch, count - base)
            entries = os.pread(file.fileno(), size * 8, (mapping.start // PAGE + base) * 8)
            if not any(entries):
                if start is not None:
                    yield start, base - start
                    start = None
                continue
            for index, top in enumerate(entries[7::8]):
                held = bool(top & 0xC0) and not top & 0x04 and not (own and top & 0x20)
                if held and start is None:
                    start = base + index
                elif not held and start is not None:
                    yield start, base + index - start
                    start = None
    if start is not None:
        yield start, count - start


def guard_pages(pid: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    """Runs (first page, count) of pages that may not be touched: MADV_GUARD_INSTALL, as the C library has it below a
    thread's stack (bit 58 of /proc/PID/pagemap). Of a mapping without any page they are not looked for."""
    if mapping.empty:
        return
    batch = 1 << 15
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        for base in range(0, mapping.size // PAGE, batch):
            size = min(batch, mapping.size // PAGE - base)
            entries = os.pread(file.fileno(), size * 8, (mapping.start // PAGE + base) * 8)
            for run in _GUARDED.finditer(entries[7::8]):
                yield base + run.start(), run.end() - run.start()


@dataclass(frozen=True, slots=True)
class Status:
    """Selected fields of /proc/PID/status and /proc/PID/stat."""

    name: str
    umask: int
    numbers: tuple[int, ...]
    """The process's numbers from the outermost to its own pid namespace."""
    memory_fields: dict[str, int]
    """start_code, end_code, start_stack, start_data, end_data, start_brk, arg_start, arg_end, env_start, env_end."""


_STAT_FIELDS: Final = {
    "start_code": 26, "end_code": 27, "start_stack": 28, "start_data": 45, "end_data": 46, "start_brk": 47,
    "arg_start": 48, "arg_end": 49, "env_start": 50, "env_end": 51,
}  # fmt: skip


def read_text(path: str) -> str:
    """A file of /proc as text."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def read_status(pid: int) -> Status:
    """Read both files."""
    status = dict(line.split(":", 1) for line in read_text(f"/proc/{pid}/status").splitlines() if ":" in line)
    fields = read_text(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
    return Status(
        name=status["Name"].strip(),
        umask=int(status["Umask"], 8),
        numbers=tuple(int(number) for number in status["NSpid"].split()),
        memory_fields={name: int(fields[number - 3]) for name, number in _STAT_FIELDS.items()},
    )


def own_number(tid: int) -> int:
    """A thread's number in the innermost pid namespace that it lives in."""
    status = dict(line.split(":", 1) for line in read_text(f"/proc/{tid}/status").splitlines() if ":" in line)
    return int(status["NSpid"].split()[-1])


def children(pid: int) -> list[int]:
    """Processes whose parent is any thread of this process."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        found += (int(child) for child in read_text(f"/proc/{pid}/task/{thread}/children").split())
    return found
