"""Log groups and streams as `LogStream` wrote them: one folder per group, one file per stream."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thaw.observe.log_stream import NAME_FILE, safe_path

# Streams are named YYYY/MM/DD/[version]hex below their group's folder.
_STREAM_FILES = "[0-9][0-9][0-9][0-9]/[0-9][0-9]/[0-9][0-9]/[[]*.log"


@dataclass(frozen=True, slots=True)
class Group:
    """A log group; `created` in milliseconds since the epoch, `size` in bytes."""

    name: str
    folder: Path
    created: int
    size: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A log stream; times in milliseconds since the epoch."""

    name: str
    path: Path
    first: int
    last: int


@dataclass(frozen=True, slots=True, order=True)
class LogEvent:
    """One line: its time, its stream, its place in it (from 0)."""

    timestamp: int
    stream: str
    number: int
    message: str

    @property
    def id(self) -> str:
        """56 digits that stay the same, as CloudWatch's."""
        place = hashlib.sha256(f"{self.stream}\0{self.number}".encode()).digest()
        return f"{self.timestamp:020d}{int.from_bytes(place[:14], 'big') % 10**36:036d}"


class LogReader:
    """Reads what is below `root`; every method blocks on files."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def groups(self, prefix: str = "") -> list[Group]:
        """The groups whose names begin with `prefix`, by name."""
        found = (self._group(path.parent) for path in self._root.rglob(NAME_FILE))
        return sorted((one for one in found if one.name.startswith(prefix)), key=lambda one: one.name)

    def group(self, name: str) -> Group | None:
        """The group of that name, or None."""
        folder = self._root / safe_path(name)
        found = self._group(folder) if (folder / NAME_FILE).is_file() else None
        return found if found is not None and found.name == name else None

    def streams(self, group: Group, prefix: str = "") -> list[Stream]:
        """The streams of a group whose names begin with `prefix`, by name."""
        found = (self._stream(group, path) for path in sorted(group.folder.glob(_STREAM_FILES)))
        return [one for one in found if one is not None and one.name.startswith(prefix)]

    def events(self, streams: list[Stream], start: int | None = None, end: int | None = None) -> Iterator[LogEvent]:
        """Events of `streams` by time; from `start` on and before `end` (milliseconds)."""
        lines = [_events(one, start, end) for one in streams if start is None or one.last >= start]
        return heapq.merge(*lines)

    def _group(self, folder: Path) -> Group:
        marker = folder / NAME_FILE
        size = sum(path.stat().st_size for path in folder.glob(_STREAM_FILES))
        return Group(marker.read_text(), folder, int(marker.stat().st_mtime * 1000), size)

    def _stream(self, group: Group, path: Path) -> Stream | None:
        with path.open("rb") as file:
            first = _time(file.readline())
            file.seek(max(0, path.stat().st_size - 1 - (1 << 18)))
            last = max((_time(line) or 0 for line in file), default=0)
        if first is None:
            return None
        name = str(path.relative_to(group.folder)).removesuffix(".log")
        return Stream(name, path, first, max(first, last))


def _time(line: bytes) -> int | None:
    stamp, space, _ = line.partition(b" ")
    return int(stamp) if space and stamp.isdigit() and len(stamp) < 16 else None


def _events(stream: Stream, start: int | None, end: int | None) -> Iterator[LogEvent]:
    with stream.path.open("rb") as file:
        for number, line in enumerate(file):
            moment = _time(line)
            if moment is None or (start is not None and moment < start) or (end is not None and moment >= end):
                continue
            message = line.partition(b" ")[2].rstrip(b"\n").decode(errors="replace")
            yield LogEvent(moment, stream.name, number, message)
