"""Finds the Python interpreters of this machine, by asking each candidate what it is.

A file named python3.13 may be a shim that refuses to run, a virtual environment, or a link to elsewhere;
so every candidate is run once, and answers where its files really lie.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.runtimes.probing import ask

OLDEST_MINOR = 9
"""snapshot-restore-py and the runtime interface client have no release for anything older than Python 3.9."""

NAME = re.compile(r"python3\.(\d+)")

PROBE = """
import json, os, sys, sysconfig
base = getattr(sys, "_base_executable", None) or sys.executable
library = None
if sysconfig.get_config_var("Py_ENABLE_SHARED"):
    library = os.path.join(sys.base_prefix, "lib", sysconfig.get_config_var("LDLIBRARY") or "")
    instance = sysconfig.get_config_var("INSTSONAME")
    library = os.path.join(sys.base_prefix, "lib", instance) if instance else library
print(json.dumps({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "final": sys.version_info[3] == "final",
    "implementation": sys.implementation.name,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "prefix": os.path.realpath(sys.base_prefix),
    "executable": os.path.realpath(base),
    "standard_library": os.path.realpath(os.path.dirname(os.__file__)),
    "library": library and os.path.exists(library) and os.path.realpath(library) or None,
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A CPython that runs here; all paths are of the host, with links resolved."""

    version: str
    prefix: Path
    executable: Path
    standard_library: Path
    library: Path | None
    """libpython, where the executable is linked to it."""

    @property
    def name(self) -> str:
        """The runtime that it serves: "python3.13"."""
        return "python" + ".".join(self.version.split(".")[:2])

    @property
    def minor(self) -> int:
        """13 for Python 3.13."""
        return int(self.version.split(".")[1])


def default_folders() -> list[Path]:
    """Folders that may hold interpreters, in order of preference: PATH, pyenv, uv, usual prefixes."""
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local" / "share" / "uv" / "python")
    on_path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    grouped = [
        *sorted(pyenv.glob("versions/*/bin")),
        *sorted(uv.glob("*/bin")),
        *sorted(Path("/opt").glob("*/bin")),
        *sorted(Path("/opt").glob("python/*/bin")),
    ]
    return [*on_path, *grouped, Path("/usr/local/bin"), Path("/usr/bin")]


def candidates(folders: Iterable[Path], name: str | None = None) -> Iterator[Path]:
    """Executable files in `folders` named like a Python interpreter (`name` limits them to one runtime)."""
    seen: set[Path] = set()
    for folder in folders:
        try:
            files = sorted(folder.iterdir()) if folder.is_dir() else []
        except PermissionError:
            continue  # a folder that this user may not read holds nothing that it may run
        for file in files:
            if _is_wanted(file.name, name) and os.access(file, os.X_OK) and file not in seen:
                seen.add(file)
                yield file


def _is_wanted(file_name: str, name: str | None) -> bool:
    match = NAME.fullmatch(file_name)
    return match is not None and int(match[1]) >= OLDEST_MINOR and name in (None, file_name)


async def probe(executable: Path) -> Interpreter | None:
    """What `executable` says it is; None if it does not run, or is not a released, ordinary CPython."""
    output = await ask(executable, "-I", "-S", "-c", PROBE)
    return None if output is None else _interpreter(output)


def _interpreter(output: bytes) -> Interpreter | None:
    facts = json.loads(output)
    if facts["implementation"] != "cpython" or facts["free_threaded"] or not facts["final"]:
        return None
    prefix, executable = Path(facts["prefix"]), Path(facts["executable"])
    if not executable.is_relative_to(prefix):
        return None  # its parts lie in several places, so it cannot be shown to a sandbox as one folder
    return Interpreter(
        version=facts["version"],
        prefix=prefix,
        executable=executable,
        standard_library=Path(facts["standard_library"]),
        library=Path(facts["library"]) if facts["library"] else None,
    )


async def discover(name: str | None = None, folders: Sequence[Path] | None = None) -> list[Interpreter]:
    """Every distinct interpreter in `folders` (default: the usual ones), newest first.

    Of two with the same version the one in the earlier folder comes first. Candidates are run at the same
    time, so this takes as long as the slowest of them (50 ms; a shim that hangs: 10 s).
    """
    files = list(candidates(default_folders() if folders is None else folders, name))
    distinct: dict[Path, Interpreter] = {}
    for found in await asyncio.gather(*map(probe, files)):
        if found and name in (None, found.name):
            distinct.setdefault(found.executable, found)
    return sorted(distinct.values(), key=lambda one: tuple(map(int, one.version.split("."))), reverse=True)
