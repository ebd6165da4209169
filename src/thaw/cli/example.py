"""The function of the demonstration and of the benchmark: examples/seattle_weather, as a deployment package."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from thaw.errors import ConfigurationError
from thaw.runtimes.interpreters import NAME, discover

CHECKOUT = Path(__file__).parents[3]
SCRIPT = CHECKOUT / "examples" / "build.py"
EXAMPLE = "seattle_weather"
HANDLER = "handler.handler"
TITLE = "an analysis of the weather of Seattle (pandas, numpy, boto3)"
# AWS offers SnapStart from Python 3.12 on.
OLDEST_ON_AWS = 12


@dataclass(frozen=True, slots=True)
class Example:
    """A deployment package and how to call it; `file` is the package on disk."""

    title: str
    runtime: str
    handler: str
    package: bytes
    payload: bytes
    file: Path


def build_example(step: Callable[[str], None]) -> Example:
    """Builds the package for the newest Python of this machine, once; `step` is told what is being done.

    Raises ConfigurationError where there is no checkout, no interpreter or no package index.
    """
    folder = SCRIPT.parent / EXAMPLE
    if not SCRIPT.is_file():
        raise ConfigurationError(
            f"The example is not part of the installed package ({SCRIPT} is missing): run this in a checkout."
        )
    runtime = _newest_runtime(step)
    file = CHECKOUT / "build" / f"{EXAMPLE}-{runtime}.zip"
    if not _is_newer(file, [SCRIPT, *folder.iterdir()]):
        step(f"building the example for {runtime} (pip installs pandas and numpy, once)")
        _build(runtime, file)
    payload = (folder / "event.json").read_bytes()
    return Example(TITLE, runtime, HANDLER, file.read_bytes(), payload, file)


def _newest_runtime(step: Callable[[str], None]) -> str:
    found = asyncio.run(discover())
    if not found:
        raise ConfigurationError("This machine has no Python 3.9 or later for functions: install one and try again.")
    match = NAME.fullmatch(found[0].name)
    if match is not None and int(match[1]) < OLDEST_ON_AWS:
        step(f"no Python 3.12 or later here: {found[0].name} is used (on AWS without SnapStart)")
    return found[0].name


def _is_newer(file: Path, sources: list[Path]) -> bool:
    return file.is_file() and file.stat().st_mtime > max(source.stat().st_mtime for source in sources)


def _build(runtime: str, file: Path) -> None:
    command = [sys.executable, str(SCRIPT), EXAMPLE, "--runtime", runtime, "--output", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ConfigurationError(f"The example could not be built: {said[-1] if said else 'the script said nothing'}")
