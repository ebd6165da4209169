"""Folders of clients, `<state>/runtimes/<runtime>-<digest>`: each appears under its name only when it is complete, so a
killed server leaves nothing that looks finished."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

COMPLETE = "client.txt"
"""Lists what was installed, one distribution a line; written last, read for the runtime's digest."""

INSTALL_LIMIT_S = 600.0
Progress = Callable[[str], None]


async def complete_folder(runtimes_dir: Path, name: str, fill: Callable[[Path], Awaitable[list[str]]]) -> Path:
    """The folder `name`, which `fill` makes in a folder of another name if it is not there yet.

    `fill` returns what it installed, a distribution a line; what it raises is passed on, and leaves nothing.
    """
    folder = runtimes_dir / name
    if (folder / COMPLETE).is_file():
        return folder
    runtimes_dir.mkdir(parents=True, exist_ok=True)
    remove_abandoned(runtimes_dir)
    part = Path(tempfile.mkdtemp(prefix=f".part-{os.getpid()}-", dir=runtimes_dir))
    try:
        installed = await fill(part)
        part.chmod(0o755)  # the function's user reads it; mkdtemp made it for us alone
        (part / COMPLETE).write_text("\n".join(installed) + "\n")
        _put_in_place(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


async def run(command: list[str], variables: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and what was printed of `command`; it gets ordinary file modes, and INSTALL_LIMIT_S seconds.

    The mode mask is set by a shell, because uvloop's subprocesses have no `umask` argument.
    """
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", 'umask 022; exec "$@"', "sh", *command, env={**os.environ, **(variables or {})},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(INSTALL_LIMIT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return 1, f"no end after {INSTALL_LIMIT_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")


def _put_in_place(part: Path, folder: Path) -> None:
    try:
        part.rename(folder)
    except OSError:
        # Another server was faster. Its folder has the same digest, so it will do as well as ours.
        if not (folder / COMPLETE).is_file():
            raise


def remove_abandoned(runtimes_dir: Path) -> None:
    """Removes half-installed folders of servers that no longer run."""
    for part in runtimes_dir.glob(".part-*"):
        owner = part.name.split("-")[1]
        if not Path("/proc", owner).exists():
            shutil.rmtree(part, ignore_errors=True)
