"""Asking a program of this machine what it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

PROBE_LIMIT_S = 10.0


async def ask(executable: Path, *arguments: str) -> bytes | None:
    """What `executable` prints; None if it does not run, fails, or takes longer than PROBE_LIMIT_S."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(executable), *arguments, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None  # a file without a valid format or with a missing loader: nothing for this machine
    try:
        async with asyncio.timeout(PROBE_LIMIT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return output if process.returncode == 0 else None
