"""Finds the Java installations of this machine, by the file `release` that each has in its folder.

JEP 223 fixes what its JAVA_VERSION says ("17.0.15"), and no installation has to be run to read it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r"java(\d+)")
SERVED = (25, 21, 17, 11)
"""Lambda's Java runtimes that may have SnapStart, newest first."""

_ENTRY = re.compile(r'^(\w+)="([^"]*)"$', re.MULTILINE)
_GROUPS = ("/usr/lib/jvm/*", "/usr/java/*", "/opt/java/*", "/opt/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class JavaHome:
    """A HotSpot of one of the served versions; `folder` has no links in it."""

    version: str
    folder: Path
    implementor: str

    @property
    def major(self) -> int:
        """17 for 17.0.15."""
        return int(self.version.split(".")[0])

    @property
    def name(self) -> str:
        """The runtime that it serves: "java17"."""
        return f"java{self.major}"

    @property
    def executable(self) -> Path:
        """bin/java."""
        return self.folder / "bin" / "java"

    @property
    def parts(self) -> tuple[Path, ...]:
        """The files whose replacement makes it another installation."""
        return self.executable, self.folder / "lib" / "server" / "libjvm.so", self.folder / "lib" / "modules"


def default_homes() -> list[Path]:
    """Folders that may be Java installations, in order of preference: JAVA_HOME, PATH, the usual places."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    if on_path is not None:
        homes.append(Path(on_path).resolve().parents[1])
    own = Path.home()
    groups = [*_GROUPS, f"{own}/.sdkman/candidates/java/*", f"{own}/.jdks/*"]
    return homes + [home for group in groups for home in sorted(Path("/").glob(group.lstrip("/")))]


def read_home(folder: Path) -> JavaHome | None:
    """The installation in `folder`; None if there is none, or none that is served."""
    try:
        home = folder.resolve(strict=True)
        entries = dict(_ENTRY.findall((home / "release").read_text(errors="replace")))
    except OSError:
        return None  # no folder, no such file in it, or not ours to read: nothing that could be run
    version = entries.get("JAVA_VERSION", "")
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) not in SERVED:
        return None
    found = JavaHome(version=version, folder=home, implementor=entries.get("IMPLEMENTOR", ""))
    return found if all(part.is_file() for part in found.parts) else None


def discover(homes: Sequence[Path] | None = None) -> list[JavaHome]:
    """Every distinct installation in `homes` (default: the usual ones), newest first; of two alike the earlier."""
    return _newest_first(read_home(folder) for folder in (default_homes() if homes is None else homes))


def _newest_first(found: Iterable[JavaHome | None]) -> list[JavaHome]:
    distinct: dict[Path, JavaHome] = {}
    for home in found:
        if home is not None:
            distinct.setdefault(home.folder, home)
    return sorted(distinct.values(), key=lambda home: _numbers(home.version), reverse=True)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
