"""External extensions: the programs in /opt/extensions, started before the runtime and told when the end comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

from thaw.environment import control, furnishing
from thaw.environment.runtime_api.extensions import SHUTDOWN, Extensions
from thaw.environment.sandbox import Sandbox
from thaw.environment.settings import FunctionSettings
from thaw.environment.variables import extension_variables

FOLDER = "/opt/extensions"
SHUTDOWN_S = 2.0
"""All that the Shutdown phase may take where there are external extensions (developer guide, "Shutdown phase")."""
INTERNAL_SHUTDOWN_S = 0.5
"""The same where there are internal ones only."""
_RUNTIME_SHARE = 0.3
"""Of it, what the runtime has after SIGTERM before it is killed."""


def extension_names(settings: FunctionSettings) -> list[str]:
    """File names of the external extensions that the function's layers bring, sorted."""
    if settings.layers is None:
        return []
    folder = settings.layers / "extensions"
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())


async def start_extensions(
    sandbox: Sandbox, settings: FunctionSettings, names: list[str], log: int, variables: tuple[str, str]
) -> None:
    """Start them all; each has to register. `variables` are the credentials' token and the log stream's name.

    Raises:
        SandboxError: the sandbox is gone.
    """
    extensions = sandbox.conversation.extensions
    assert extensions is not None, "the environment has taken over the Runtime API"
    environment = extension_variables(settings, *variables)
    for name in names:
        known = extensions.expect(name)
        packet = control.start(furnishing.confinement(), "/", [f"{FOLDER}/{name}"], environment, is_extension=True)
        known.number = await sandbox.start(packet, log)


async def shut_down(sandbox: Sandbox, extensions: Extensions, runtime: int, reason: str) -> None:
    """The Shutdown phase: the runtime is asked to end, then extensions are told, and have the rest of the time.

    `runtime` is the runtime's process number here, 0 where it has ended. Whatever is left is the caller's to kill.
    """
    external = extensions.external()
    limit_s = SHUTDOWN_S if external else INTERNAL_SHUTDOWN_S
    deadline = time.monotonic() + limit_s
    if runtime:
        await _end_runtime(sandbox, runtime, limit_s * _RUNTIME_SHARE)
    if not external:
        return
    extensions.shut_down(reason, int((time.time() + deadline - time.monotonic()) * 1000))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
            await sandbox.extensions_ended({each.number for each in external if SHUTDOWN in each.events})


async def _end_runtime(sandbox: Sandbox, runtime: int, limit_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(runtime, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await sandbox.function_gone()
            return
    with contextlib.suppress(ProcessLookupError):
        os.kill(runtime, signal.SIGKILL)
