"""The folders with runtimes that somebody named by `thaw runtime add`, for all servers with the same state folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

from thaw.errors import ConfigurationError
from thaw.runtimes import interpreters, java_homes
from thaw.runtimes.runtime import Installed

_FILE = "added-runtimes.json"


def added_folders(state_dir: Path) -> list[Path]:
    """Those of `state_dir`, in the order in which they were added."""
    try:
        return [Path(folder) for folder in json.loads((state_dir / _FILE).read_text())]
    except FileNotFoundError:
        return []


async def add_folder(state_dir: Path, folder: Path) -> list[Installed]:
    """Remembers `folder`; the runtimes that it holds.

    Raises ConfigurationError where it holds none that is served.
    """
    folder = Path(os.path.abspath(folder))
    found = [Installed(home.name, home.version, home.folder) for home in java_homes.discover([folder])]
    pythons = await interpreters.discover(folders=[folder / "bin"])
    found += [Installed(python.name, python.version, python.prefix) for python in pythons]
    if not found:
        raise ConfigurationError(
            f"The folder {folder} holds no runtime for functions, because it has neither bin/python3.N (3.9 or later) "
            "nor a Java 11, 17, 21 or 25 with its file `release`: name the folder that an installation was unpacked to."
        )
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    folders = dict.fromkeys([*map(str, added_folders(state_dir)), str(folder)])
    part = state_dir / f"{_FILE}.part-{os.getpid()}"
    part.write_text(json.dumps(list(folders), indent=2) + "\n")
    part.rename(state_dir / _FILE)
    return found
