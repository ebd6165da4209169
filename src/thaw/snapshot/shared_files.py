"""Files without a name: memfds, shared anonymous memory, deleted files. Each clone gets its own copy.

Mappings and descriptors may lead to the same file, so both ask here for it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import Final

from thaw.snapshot.image import Extent, ImageWriter
from thaw.snapshot.plan import RESERVED, Kept, PlanWriter, Program
from thaw.snapshot.program import RESULT_IS_ARG2, ImageOffset

_F_GET_SEALS: Final = 1034
_F_ADD_SEALS: Final = 1033
_F_SEAL_SEAL: Final = 1
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_HUGETLB = 1, 2, 4
_O_TMPFILE: Final = 0o20200000
_PROT_READ_WRITE: Final = 3
_MAP_SHARED: Final = 1
_BOUNCE: Final = RESERVED.start + 0x280_0000_0000
"""Where the clone maps such a file while it fills it: inside the reserved range, above where the vDSO may wait."""


def file_key(descriptor: int) -> tuple[int, int]:
    """Device and inode."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _seals(descriptor: int) -> int:
    """Seals of a memfd; of a file that has none, the one that forbids to add any."""
    try:
        return fcntl.fcntl(descriptor, _F_GET_SEALS)
    except OSError:  # EINVAL: not a file that can be sealed
        return _F_SEAL_SEAL


class NamelessFiles:
    """Creates each nameless file once in the clone; `seal` comes last, when everything is in place."""

    def __init__(self, plan: PlanWriter, image: ImageWriter, kept: Kept, enter: Program) -> None:
        self._plan = plan
        self._image = image
        self._kept = kept
        self._enter = enter
        self._created: dict[tuple[int, int], int] = {}
        self._seals: list[tuple[int, int]] = []

    def descriptor(self, source: int, link: str) -> int:
        """Number, above all of the function's, of a descriptor of the copy.

        `source` is an open descriptor of the original in this process, `link` its name in /proc.
        """
        key = file_key(source)
        if key not in self._created:
            self._created[key] = self._create(source, link)
        return self._created[key]

    def _create(self, source: int, link: str) -> int:
        plan, enter = self._plan, self._enter
        status = os.fstat(source)
        seals = 1
        if link.startswith(("/memfd:", "/dev/zero")):
            name = link.removeprefix("/memfd:").removesuffix(" (deleted)")
            seals = _seals(source)
            flags = _MFD_CLOEXEC | (0 if seals & _F_SEAL_SEAL else _MFD_ALLOW_SEALING)
            held = enter.hold("memfd_create", plan.text(name), flags, kept=self._kept)
        else:
            mode = stat.S_IMODE(status.st_mode)
            flags = _O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
            held = enter.hold("open", plan.text("/tmp"), flags, mode, kept=self._kept, label=f"copy of {link}")
        if seals & ~_F_SEAL_SEAL:
            self._seals.append((held, seals))
        uid, gid = plan.parameter("uid"), plan.parameter("gid")
        enter.call("fchown", held, uid, gid)
        enter.call("ftruncate", held, status.st_size)
        self._fill(source, held, status.st_size, link)
        return held

    def _fill(self, source: int, held: int, size: int, link: str) -> None:
        extents = self._image.store(0, size, lambda length, offset: os.pread(source, length, offset))
        for extent in extents:
            self._copy(held, extent, link)

    def _copy(self, held: int, extent: Extent, link: str) -> None:
        """Read the image into a shared mapping of the file: no other call moves bytes between two files at offsets."""
        enter = self._enter
        start = extent.address // 4096 * 4096
        skip = extent.address - start
        length = -(-(extent.size + skip) // 4096) * 4096
        enter.call("mmap", _BOUNCE, length, _PROT_READ_WRITE, _MAP_SHARED | 0x10, held, start, label=link)
        target = _BOUNCE + skip
        enter.call(
            "pread64",
            self._kept.memory,
            target,
            extent.size,
            ImageOffset(extent.offset),
            label=link,
            flags=RESULT_IS_ARG2,
        )
        enter.call("munmap", _BOUNCE, length)

    @property
    def sealed(self) -> bool:
        """Whether any of them has seals."""
        return bool(self._seals)

    def seal(self, program: Program) -> None:
        """Apply the seals of memfds, which would have forbidden to fill them; their descriptors are still open then."""
        for held, seals in self._seals:
            program.call("fcntl", held, _F_ADD_SEALS, seals)
