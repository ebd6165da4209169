"""The report that a language's own interpreter makes of its process before the snapshot, read with care.

Python's is made by `thaw.runtimes.bootstrap.thaw_report`; a runtime of another language may send the same shape to
POST /thaw/v1/report. It comes from the function's process, so it may say anything: what does not fit is refused whole.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

logger = logging.getLogger(__name__)

Place = tuple[str, int, str]
"""File as the function's process names it, line, function."""


class Thread(msgspec.Struct, frozen=True):
    """`number` is the thread's in the process's own pid namespace; `at` begins with its innermost frame."""

    name: str
    number: int = 0
    daemon: bool = False
    main: bool = False
    at: list[Place] = []
    made: list[Place] = []


class Socket(msgspec.Struct, frozen=True):
    """`made` holds the function's own frames, the innermost first."""

    descriptor: int
    made: list[Place] = []


class File(msgspec.Struct, frozen=True):
    """A file that an object of the language holds open; `holder` is the name under which a module has it."""

    descriptor: int
    holder: str = ""


class Child(msgspec.Struct, frozen=True):
    """A child process; `number` 0 stands for those that are known only by where the process forked."""

    number: int
    command: str = ""
    made: list[Place] = []


class Report(msgspec.Struct, frozen=True):
    """`types` are (type, objects, bytes), `largest` (type, bytes, name of its holder), `generators` and `credentials`
    (type, name of its holder), `total` objects and bytes."""

    language: str
    threads: list[Thread] = []
    sockets: list[Socket] = []
    children: list[Child] = []
    variables: list[str] = []
    complete: bool = True
    total: tuple[int, int] = (0, 0)
    types: list[tuple[str, int, int]] = []
    largest: list[tuple[str, int, str]] = []
    generators: list[tuple[str, str]] = []
    credentials: list[tuple[str, str]] = []
    files: list[File] = []

    def document(self) -> dict[str, Any]:
        """As it is kept in a snapshot's facts: maps, lists, text and numbers."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


def read_report(content: bytes) -> Report | None:
    """The report, or None where there is none or it is not one."""
    if not content:
        return None
    try:
        return msgspec.json.decode(content, type=Report)
    except msgspec.DecodeError as error:  # malformed JSON, or another shape
        logger.warning("a runtime's report of its process is of no use: %s", error)
        return None


def place_text(place: Place) -> str:
    """`app.py, line 12 (connect)`; a file of the deployment package is named without /var/task."""
    file, line, function = place
    shown = file.removeprefix("/var/task/")
    return f"{shown}, line {line}" + ("" if function == "<module>" else f" ({function})")


def made_text(made: list[Place]) -> str:
    """`made in app.py, line 12 (connect), called from line 40`, from the innermost and the outermost frame; "" if
    unknown."""
    if not made:
        return ""
    inner, outer = made[0], made[-1]
    if inner == outer:
        return f"made in {place_text(inner)}"
    led = place_text(outer) if outer[0] != inner[0] else place_text(("", *outer[1:])).removeprefix(", ")
    return f"made in {place_text(inner)}, called from {led}"
