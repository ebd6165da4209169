"""Publishes the probe, calls it in as many clones as asked for, and counts how many values of each source differ."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.cli.uniqueness.sources import SOURCES, Source

FUNCTION = "uniqueness"
CHILDREN = "uniqueness-children"
# Clones of a process tree take longer, and draw from fewer sources: one for so many others.
CHILDREN_SHARE = 4
PACKAGES = ("numpy", "cryptography")
# More calls at one time than processors only wait for each other.
LANES = 3
# Of values that only the clock tells apart some may be equal; fewer than this share would be another fault.
CLOCK_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Compared:
    """One source over all clones."""

    source: Source
    clones: int
    distinct: int

    @property
    def as_expected(self) -> bool:
        """Whether clones differ, or not, as the list says."""
        if self.source.expected == "repeats":
            return self.distinct == 1
        if self.source.expected == "by chance":
            return self.distinct > 1
        least = self.clones if self.source.expected == "differs" else round(CLOCK_SHARE * self.clones)
        return self.distinct >= least


def compare(samples: Sequence[dict[str, Any]]) -> list[Compared]:
    """Counts; a source that the probe could not look at (a package is missing) is left out."""
    return [
        Compared(source, len(samples), len({json.dumps(sample[name]) for sample in samples}))
        for name, source in SOURCES.items()
        if name in samples[0]
    ]


def probe_package(folder: Path) -> bytes:
    """The deployment package, with the packages in `folder`."""
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("probe.py", "probe_children.py"):
            archive.writestr(name, Path(__file__).with_name(name).read_bytes())
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "tests" not in file.parts:
                entry = zipfile.ZipInfo(str(file.relative_to(folder)), (1980, 1, 1, 0, 0, 0))
                entry.external_attr, entry.compress_type = 0o755 << 16, zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()


async def packages_folder(runtimes_dir: Path, runtime: str) -> Path:
    """numpy and cryptography for a Python, installed once; raises ConfigurationError with pip's words."""
    import sys

    from thaw.errors import ConfigurationError
    from thaw.runtimes.installation import complete_folder, run
    from thaw.runtimes.interpreters import discover

    executable = str((await discover(runtime, _folders(runtimes_dir)))[0].executable)

    async def fill(part: Path) -> list[str]:
        arguments = ["install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
        arguments += ["--target", str(part), *PACKAGES]
        for pip in ([sys.executable, "-m", "pip", "--python", executable], [executable, "-m", "pip"]):
            status, said = await run([*pip, *arguments])
            if status == 0:
                return list(PACKAGES)
        raise ConfigurationError(
            f"numpy and cryptography could not be installed for {runtime}, because pip says "
            f"{said.strip().splitlines()[-1]!r}: make a package index reachable, or try --without-packages."
        )

    return await complete_folder(runtimes_dir, f"uniqueness-{runtime}", fill)


def publish_probe(client: Any, runtime: str, package: bytes, function: str = FUNCTION) -> str:
    """Creates the function with SnapStart, the one whose child process draws where `function` is CHILDREN; gives the
    published version."""
    from thaw.cli.measuring import publish, wait_active

    client.create_function(
        FunctionName=function, Runtime=runtime, MemorySize=1024, Timeout=60,
        Handler="probe_children.handler" if function == CHILDREN else "probe.handler",
        Role="arn:aws:iam::000000000000:role/doctor", Code={"ZipFile": package},
        SnapStart={"ApplyOn": "PublishedVersions"},
    )  # fmt: skip
    wait_active(client, function)
    return publish(client, function)[0]


def draw(
    url: str, version: str, clones: int, done: Callable[[], None] = lambda: None, function: str = FUNCTION
) -> list[dict[str, Any]]:
    """What every clone answered. Every call must have been a clone's first; raises CallFailed otherwise."""
    shares = [clones // LANES + (lane < clones % LANES) for lane in range(LANES)]
    with ThreadPoolExecutor(LANES) as lanes:
        found = lanes.map(lambda share: _draw(url, version, share, done, function), shares)
        return [sample for part in found for sample in part]


def _draw(url: str, version: str, clones: int, done: Callable[[], None], function: str) -> list[dict[str, Any]]:
    from thaw.cli.measuring import CallFailed, http_caller

    samples = []
    with http_caller(url, function) as call:
        for _ in range(clones):
            answer = call(version)
            if "Restore Duration" not in answer.report:
                raise CallFailed("A call was not served by a fresh clone: see the function's log with `thaw logs`.")
            samples.append(json.loads(answer.payload))
            done()
    return samples


def _folders(runtimes_dir: Path) -> list[Path]:
    """Where Pythons for functions are: in what was added to the state folder, and in the usual places."""
    from thaw.runtimes.added import added_folders
    from thaw.runtimes.interpreters import default_folders

    return [*(folder / "bin" for folder in added_folders(runtimes_dir.parent)), *default_folders()]


def python_for(runtimes_dir: Path, runtime: str | None) -> str:
    """That Python, or the newest for functions on this machine; raises ConfigurationError where there is none."""
    from thaw.errors import ConfigurationError
    from thaw.runtimes.interpreters import discover

    found = asyncio.run(discover(folders=_folders(runtimes_dir)))
    if not found:
        raise ConfigurationError("This machine has no Python 3.9 or later for functions: install one and try again.")
    names = list(dict.fromkeys(one.name for one in found))
    if runtime is not None and runtime not in names:
        raise ConfigurationError(
            f"Clones of {runtime} cannot be compared, because no such Python is on this machine: name one of "
            f"{', '.join(names)}."
        )
    return runtime or names[0]
