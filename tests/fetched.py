"""Runtimes that this machine lacks and `.ci/runtimes` fetched into build/runtimes, one folder each, for tests only."""

from __future__ import annotations

import asyncio
from pathlib import Path

from thaw.runtimes.added import add_folder

FETCHED = Path(__file__).parents[1] / "build" / "runtimes"
HOW = "`.ci/runtimes` fetch one for the tests"


def folders() -> list[Path]:
    """The folders that have bin/ in them."""
    return sorted(folder for folder in FETCHED.glob("*") if (folder / "bin").is_dir())


def add_to(state_dir: Path) -> None:
    """Names them to the server of `state_dir`, as `thaw runtime add` does."""
    for folder in folders():
        asyncio.run(add_folder(state_dir, folder))
