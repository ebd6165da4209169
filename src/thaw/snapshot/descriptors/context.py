"""What every kind of descriptor needs to plan its way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thaw.errors import NotFreezable
from thaw.snapshot.descriptors.table import DescriptorTable, OpenFile
from thaw.snapshot.plan import Kept, PlanWriter, Program
from thaw.snapshot.program import Argument, Variable
from thaw.snapshot.shared_files import NamelessFiles

_F_SETFL = 4
_O_NONBLOCK, _O_APPEND, _O_ASYNC, _O_DIRECT, _O_NOATIME = 0o4000, 0o2000, 0o20000, 0o40000, 0o1000000


@dataclass(frozen=True, slots=True)
class Place:
    """One process, and the programs of its plan: `enter` gives it its descriptors, `surrender` is what it does last.
    `own_pid` is its number as itself sees it."""

    pid: int
    own_pid: int
    plan: PlanWriter
    enter: Program
    surrender: Program


@dataclass(frozen=True, slots=True)
class Context:
    """The plan under way, and the program that makes each open file once: the clone's own, and in a tree what its first
    process does before it forks the others. `places` are the processes, the function's first."""

    plan: PlanWriter
    enter: Program
    places: Sequence[Place]
    kept: Kept
    table: DescriptorTable
    nameless: NamelessFiles
    connection_port: int
    """Local port of the runtime connection; 0 where the process has none."""
    repeated: Mapping[int, bytes]
    """Requests that are made again, by the local port of the connection that waits for the answer."""
    log: tuple[int, int]
    """Device and inode of the log's pipe."""

    @property
    def pid(self) -> int:
        """The function's process."""
        return self.places[0].pid

    @property
    def is_tree(self) -> bool:
        """Whether there are other processes."""
        return len(self.places) > 1

    def hold(self, call: str, *arguments: Argument, label: str = "") -> int:
        """Add a call that gives a descriptor; it is moved above all of the function's."""
        return self.enter.hold(call, *arguments, kept=self.kept, label=label)

    def hold_pipe(self, *, label: str) -> tuple[int, int]:
        """A new pipe: numbers of its reading and its writing end."""
        address = self.plan.allocate(bytes(8))
        self.enter.call("pipe2", address, 0, label=label)
        return self._hold_two(address)

    def hold_pair(self, family: int, kind: int, *, label: str) -> tuple[int, int]:
        """A new pair of connected sockets: their numbers."""
        address = self.plan.allocate(bytes(8))
        self.enter.call("socketpair", family, kind, 0, address, label=label)
        return self._hold_two(address)

    def _hold_two(self, address: int) -> tuple[int, int]:
        first = self.enter.move_up(Variable(address), self.kept)
        return first, self.enter.move_up(Variable(address + 4), self.kept)

    def set_flags(self, held: int, file: OpenFile) -> None:
        """Set O_NONBLOCK and the like where the file has any."""
        settable = file.flags & (_O_NONBLOCK | _O_APPEND | _O_ASYNC | _O_DIRECT | _O_NOATIME)
        if settable:
            self.enter.call("fcntl", held, _F_SETFL, settable)


def refusal(file: OpenFile, what: str, remedy: str = "close it in a before-snapshot hook") -> NotFreezable:
    """The sentence for a descriptor that has no way back."""
    sentence = f"Descriptor {file.first}{file.owner} is {what} ({file.link}), which cannot be frozen: {remedy}."
    return NotFreezable(sentence, resource="" if file.owner else "descriptor", number=file.first)
