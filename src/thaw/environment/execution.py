"""The phases of one execution environment: Init or Restore, Invoke, and its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Self

from thaw.environment.invocation import Invocation, InvocationResult, RestoreCommand
from thaw.environment.sandbox import Sandbox
from thaw.environment.settings import FunctionSettings
from thaw.observe.log_stream import LogStream

# Puts a snapshot's files into the clone's /tmp, given a directory descriptor of its root.
FillTmp = Callable[[int], Awaitable[None]]


class Phase(Enum):
    """Where an environment stands; `usable` environments are IDLE."""

    INIT = "init"
    RESTORE = "restore"
    IDLE = "idle"
    INVOKE = "invoke"
    CLOSED = "closed"


class Environment:
    """One sandboxed process tree that serves one invocation at a time."""

    id: str
    settings: FunctionSettings
    phase: Phase

    @classmethod
    async def launch(cls, sandbox: Sandbox, settings: FunctionSettings, log: LogStream) -> Self:
        """Start the runtime afresh in `sandbox`."""
        raise NotImplementedError

    @classmethod
    async def restore(
        cls, sandbox: Sandbox, settings: FunctionSettings, log: LogStream, command: RestoreCommand,
        fill_tmp: FillTmp | None = None,
    ) -> Self:
        """Make `sandbox` a clone."""
        raise NotImplementedError

    async def initialised(self, limit_s: float, request_id: str = "") -> None:
        """Wait for the end of the Init phase."""
        raise NotImplementedError

    async def restored(self, limit_s: float, request_id: str = "") -> None:
        """Wait for the end of the Restore phase."""
        raise NotImplementedError

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """Serve one invocation."""
        raise NotImplementedError

    async def close(self) -> None:
        """End every process and remove every trace."""
        raise NotImplementedError
