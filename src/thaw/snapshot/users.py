"""Numbers of users and groups as a process's user namespace counts them."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import Literal, Self

from thaw.snapshot.process import read_text

_NOBODY = 65534
"""kernel.overflowuid: who owns what nobody in a namespace does."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """One map of user_namespaces(7): first number inside, first number here, and how many."""

    ranges: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, pid: int, kind: Literal["uid", "gid"]) -> Self:
        """The map of a process's user namespace, as this process sees it."""
        lines = read_text(f"/proc/{pid}/{kind}_map").splitlines()
        return cls(tuple((int(inside), int(here), int(count)) for inside, here, count in map(str.split, lines)))

    def inside(self, number: int) -> int:
        """What a number of this machine is in there."""
        for inside, here, count in self.ranges:
            if here <= number < here + count:
                return inside + number - here
        return _NOBODY


@dataclass(frozen=True, slots=True)
class Owners:
    """Users and groups of one process's namespace."""

    users: Numbers
    groups: Numbers

    @classmethod
    def of(cls, pid: int) -> Self:
        """Those of a process."""
        return cls(Numbers.of(pid, "uid"), Numbers.of(pid, "gid"))

    def rename(self, entry: tarfile.TarInfo) -> tarfile.TarInfo:
        """An entry of an archive, with the owners that the process sees."""
        entry.uid, entry.gid = self.users.inside(entry.uid), self.groups.inside(entry.gid)
        entry.uname = entry.gname = ""
        return entry
