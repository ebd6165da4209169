"""The folders with runtimes that somebody named by `thaw runtime add`, for all servers with the same state folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from thaw.errors import ConfigurationError
from thaw.runtimes import interpreters, java_homes
from thaw.runtimes.installation import run
from thaw.runtimes.java_homes import JavaHome
from thaw.runtimes.runtime import Installed

_FILE = "added-runtimes.json"


def added_folders(state_dir: Path) -> list[Path]:
    """Those of `state_dir`, in the order in which they were added."""
    try:
        return [Path(folder) for folder in json.loads((state_dir / _FILE).read_text())]
    except FileNotFoundError:
        return []


def share_folders(state_dir: Path, other: Path) -> None:
    """Lets the servers of the state folder `other` have what was added to `state_dir`."""
    if folders := added_folders(state_dir):
        _write(other, map(str, folders))


async def add_folder(state_dir: Path, folder: Path) -> list[Installed]:
    """Remembers `folder`; the runtimes that it holds.

    Raises ConfigurationError where it holds none that is served, or one that does not start here.
    """
    folder = Path(os.path.abspath(folder))
    homes = java_homes.discover([folder])
    for home in homes:
        await _require_start(home)
    found = [Installed(home.name, home.version, home.folder) for home in homes]
    pythons = await interpreters.discover(folders=[folder / "bin"])
    found += [Installed(python.name, python.version, python.prefix) for python in pythons]
    if not found:
        raise ConfigurationError(
            f"The folder {folder} holds no runtime for functions, because it has neither bin/python3.N (3.9 or later) "
            "nor a Java 11, 17, 21 or 25 with its file `release`: name the folder that an installation was unpacked to."
        )
    _write(state_dir, [*map(str, added_folders(state_dir)), str(folder)])
    return found


async def _require_start(home: JavaHome) -> None:
    """Its file `release` does not tell whether it was built for this machine."""
    status, said = await run([str(home.executable), "-version"])
    if status != 0:
        reason = next((line.strip() for line in said.splitlines() if line.strip()), f"status {status}")
        raise ConfigurationError(
            f"The folder {home.folder} holds Java {home.version}, which does not start on this machine ({reason}): "
            "name one that was built for its processor and C library, unpacked whole."
        )


def _write(state_dir: Path, folders: Iterable[str]) -> None:
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = state_dir / f"{_FILE}.part-{os.getpid()}"
    part.write_text(json.dumps(list(dict.fromkeys(folders)), indent=2) + "\n")
    part.rename(state_dir / _FILE)
