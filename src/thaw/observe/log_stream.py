"""The log stream of one execution environment: a file, the last 4 KiB, and whoever listens."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import msgspec

# Lambda answers LogType=Tail with the last 4 KB of the log.
TAIL_BYTES = 4096
# In a group's folder: its name, which its path does not tell exactly.
NAME_FILE = ".group"
# Bytes of a file's name (NAME_MAX of Linux).
_LONGEST_NAME = 255

Subscriber = Callable[[int, bytes], None]


def stream_name(version: str, moment: datetime | None = None) -> str:
    """Lambda's name of a log stream: `YYYY/MM/DD/[version]` and 32 hexadecimal digits."""
    moment = moment or datetime.now(UTC)
    return f"{moment:%Y/%m/%d}/[{version}]{uuid4().hex}"


def timestamp(moment: datetime) -> str:
    """`2026-01-31T12:00:00.123Z`, as Lambda writes the time into log lines."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def safe_path(group: str) -> str:
    """A group's name as a relative path: it may hold slashes and dots, but not lead out of the folder.

    A part may be longer than a file's name can be; what is cut off is told apart by its digest.
    """
    return "/".join(_file_name(part) for part in group.split("/") if part not in ("", ".", ".."))


def _file_name(part: str) -> str:
    encoded = part.encode("utf-8", "replace")
    if len(encoded) <= _LONGEST_NAME:
        return part
    return f"{part[:40]}-{hashlib.sha256(encoded).hexdigest()}"


class LogStream:
    """Appends lines with their time; one per environment.

    `folder` is where log groups live (None keeps nothing on disk). The file has one event per line:
    milliseconds since the epoch, a space, the text. Subscribers receive (milliseconds, line) in order;
    one that raises is the caller's defect and is not caught. `log_format` is the function's: "Text" or "JSON".
    """

    def __init__(self, folder: Path | None, group: str, version: str, log_format: str = "Text") -> None:
        self.group = group
        self._json = log_format == "JSON"
        self.name = stream_name(version)
        self._tail = bytearray()
        self._subscribers: list[Subscriber] = []
        self._path = folder / safe_path(group) / f"{self.name}.log" if folder else None
        self._file: int | None = None

    @property
    def path(self) -> Path | None:
        """The file that holds this stream, or None where logs are not kept."""
        return self._path

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber(milliseconds, line)` for every line from now on."""
        self._subscribers.append(subscriber)

    def begin_invocation(self) -> None:
        """Forget the tail: it belongs to one invocation."""
        self._tail.clear()

    def tail(self) -> bytes:
        """The last 4096 bytes of the current invocation's log."""
        return bytes(self._tail[-TAIL_BYTES:])

    def append(self, lines: list[bytes]) -> None:
        """Write whole lines (without their line feed) with the present time."""
        if not lines:
            return
        now = time.time_ns() // 1_000_000
        self._keep_tail(lines)
        self._write(now, lines)
        for subscriber in self._subscribers:
            for line in lines:
                subscriber(now, line)

    def platform(self, text: str) -> None:
        """Write a sentence of Thaw's own, to people; in the format JSON it is an object, as everything there."""
        if self._json:
            note = {"timestamp": timestamp(datetime.now(UTC)), "level": "WARN", "message": text}
            self.append([msgspec.json.encode(note)])
        else:
            self.append([text.encode()])

    def close(self) -> None:
        """Close the file; a later `append` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _keep_tail(self, lines: list[bytes]) -> None:
        self._tail += b"\n".join(lines) + b"\n"
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def _write(self, now: int, lines: list[bytes]) -> None:
        if self._path is None:
            return
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._name_group(self._path.parents[3] / NAME_FILE)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        stamp = b"%d " % now
        os.write(self._file, b"".join([stamp + line + b"\n" for line in lines]))

    def _name_group(self, marker: Path) -> None:
        if not marker.exists():
            marker.write_text(self.group)
