"""Builds an example into a deployment package: its code and what its requirements.txt names, for one runtime.

    .venv/bin/python examples/build.py seattle_weather --runtime python3.13 --output build/seattle_weather.zip

Without --runtime the newest interpreter of this machine is used. The same input gives the same zip, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from thaw.runtimes.interpreters import Interpreter, discover

EXAMPLES = Path(__file__).parent
UNUSED_FOLDERS = {"tests", "__pycache__", "bin"}
UNUSED_FILES = {".pyi", ".h", ".c", ".pxd", ".pyx"}
NOT_PACKAGED = {"requirements.txt", "event.json", "README.md"}
ALWAYS_THE_SAME_TIME = (1980, 1, 1, 0, 0, 0)


def build(example: Path, interpreter: Interpreter, output: Path) -> Path:
    """Writes the package of the folder `example` to `output` and returns it. Raises SystemExit with pip's words."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "package"
        package.mkdir()
        requirements = example / "requirements.txt"
        if requirements.is_file():
            install(interpreter, requirements, package)
            strip(package)
        shutil.copytree(example, package, dirs_exist_ok=True, ignore=lambda _, names: NOT_PACKAGED & set(names))
        compile_all(interpreter, package)
        write_zip(package, output)
    return output


def install(interpreter: Interpreter, requirements: Path, package: Path) -> None:
    """Installs by our own pip, which can work for another interpreter, or by that interpreter's."""
    arguments = ["install", "--quiet", "--no-compile", "--disable-pip-version-check", "--root-user-action=ignore"]
    arguments += ["--target", str(package), "--requirement", str(requirements)]
    executable = str(interpreter.executable)
    said = ""
    for pip in ([sys.executable, "-m", "pip", "--python", executable], [executable, "-m", "pip"]):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
        if done.returncode == 0:
            return
        said = done.stderr.strip() or done.stdout.strip()
    raise SystemExit(f"The packages of {requirements} could not be installed for {interpreter.name}: {said}")


def strip(package: Path) -> None:
    """Removes what no handler needs: a package may have 250 MB unpacked and 50 MB zipped."""
    for folder in [found for found in package.rglob("*") if found.is_dir() and found.name in UNUSED_FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)  # it may lie inside one that is gone already
    for file in [found for found in package.rglob("*") if found.suffix in UNUSED_FILES and found.is_file()]:
        file.unlink()


def compile_all(interpreter: Interpreter, package: Path) -> None:
    """Compiles for the path in the sandbox. Unchecked, as zips lose the times that Python would check against."""
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(package), "-p", "/var/task"]
    subprocess.run([interpreter.executable, "-I", "-S", "-m", "compileall", *options, package], check=True)


def write_zip(package: Path, output: Path) -> None:
    """Zips `package`, every file readable by the function's user."""
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files(package)):
            entry = zipfile.ZipInfo(str(file.relative_to(package)), ALWAYS_THE_SAME_TIME)
            entry.external_attr = (0o755 if file.stat().st_mode & 0o100 else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())


def files(package: Path) -> Iterator[Path]:
    """All files below `package`."""
    return (file for file in package.rglob("*") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", help="a folder in examples/, as seattle_weather or seeds/hooks")
    parser.add_argument("--runtime", help="as python3.13; default: the newest on this machine")
    parser.add_argument("--output", type=Path, help="the zip; default: build/<example>.zip")
    given = parser.parse_args(arguments)
    found = asyncio.run(discover(given.runtime))
    if not found:
        raise SystemExit(f"This machine has no interpreter for {given.runtime or 'any Python runtime'}.")
    name = Path(given.example).name
    output = build(EXAMPLES / given.example, found[0], given.output or Path("build") / f"{name}.zip")
    print(f"{output}  {output.stat().st_size / 1e6:.1f} MB  {found[0].name}")


if __name__ == "__main__":
    main()
