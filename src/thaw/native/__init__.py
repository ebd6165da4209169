"""The native part: one freestanding static program, built by gcc alone, that is first a sandbox or a template."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from thaw.errors import ConfigurationError

__all__ = ["binary", "spawn"]


def binary() -> Path:
    """Path of the compiled program.

    Raises:
        ConfigurationError: it was never compiled.
    """
    path = Path(__file__).with_name("thaw-sandbox")
    if not path.exists():
        raise ConfigurationError(f"The native program {path} was never compiled: run `make native`.")
    return path


_SAFE = 10  # descriptors that go to the program have to lie above the numbers that they get there


def spawn(
    program: Path, role: Literal["sandbox", "template", "owner"], descriptors: Mapping[int, int], *arguments: str
) -> int:
    """Start the program in one of its roles; its process number.

    `descriptors` maps numbers there (native/control.h) to descriptors here. Standard descriptors are /dev/null: it
    outlives no terminal. Call from a thread that lives as long as the process should: it dies with the thread.

    Raises:
        OSError: the program could not be started.
    """
    copies: dict[int, int] = {}
    try:
        for target, source in descriptors.items():
            copies[target] = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _SAFE)
        null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        placed = [(os.POSIX_SPAWN_DUP2, source, target) for target, source in copies.items()]
        return os.posix_spawn(program, [program.name, role, *arguments], {}, file_actions=[*null, *placed])
    finally:
        for copy in copies.values():
            os.close(copy)
