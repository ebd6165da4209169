"""New lines of a log group as they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class LogFollower:
    """Reads the streams of one log group; each event once, merged by time.

    With `from_now` what is there already is skipped. Every method blocks on files.
    """

    def __init__(self, folder: Path, *, from_now: bool = False) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        if from_now:
            self._read = {file: file.stat().st_size for file in folder.rglob("*.log")}

    def new_events(self) -> list[tuple[int, str, str]]:
        """(milliseconds since the epoch, stream, text) of every event since the last call, by time."""
        files = sorted(self._folder.rglob("*.log"))
        return sorted((event for file in files for event in self._events(file)), key=lambda event: event[0])

    def _events(self, file: Path) -> Iterator[tuple[int, str, str]]:
        begin = self._read.get(file, 0)
        if file.stat().st_size == begin:
            return
        with file.open("rb") as content:
            content.seek(begin)
            whole, newline, _ = content.read().rpartition(b"\n")
        self._read[file] = begin + len(whole) + len(newline)
        stream = str(file.relative_to(self._folder)).removesuffix(".log")
        for line in whole.split(b"\n") if newline else []:
            moment, _, text = line.decode(errors="replace").partition(" ")
            if moment.isdigit():
                yield int(moment), stream, text
