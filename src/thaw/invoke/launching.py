"""Fresh environments: the Init phase, with Lambda's second try.

An on-demand Init has 10 s. Where it fails or takes longer, Lambda starts the runtime once more as a part of the
invocation, with the function's timeout as its limit; only that second failure is the caller's answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from thaw.catalog.configuration import Configuration
from thaw.environment.execution import Environment
from thaw.environment.sandbox import Sandbox
from thaw.environment.settings import FunctionSettings, InitializationType
from thaw.errors import EnvironmentFailure, InitFailed, InitTimedOut
from thaw.observe.log_stream import LogStream


class Preparing(Protocol):
    """`thaw.publish.preparation.Preparation`: code and runtime of a configuration, ready on this worker."""

    async def settings(
        self, configuration: Configuration, initialization_type: InitializationType, credentials_token: str = ""
    ) -> FunctionSettings: ...


class SandboxTaking(Protocol):
    """`SandboxPool`: gives a ready sandbox, which then belongs to the caller."""

    async def take(self) -> Sandbox: ...


class Launching:
    """Starts runtimes afresh.

    `init_limit_s` bounds the first try of an on-demand Init, `provisioned_limit_s` an Init ahead of calls.
    """

    def __init__(
        self, preparing: Preparing, pool: SandboxTaking, logs: Path, *, init_limit_s: float, provisioned_limit_s: float
    ) -> None:
        self._preparing = preparing
        self._pool = pool
        self._logs = logs
        self._init_limit_s = init_limit_s
        self._provisioned_limit_s = provisioned_limit_s

    def log(self, configuration: Configuration) -> LogStream:
        """The log stream of a new environment."""
        return LogStream(self._logs, configuration.log_group, configuration.version, configuration.log_format)

    async def fresh(self, configuration: Configuration, request_id: str, log: LogStream) -> Environment:
        """An environment that waits for its first invocation.

        Raises InitFailed or InitTimedOut with the answer for the caller, SandboxError, RuntimeNotFound, StoreError.
        """
        settings = await self._preparing.settings(configuration, "on-demand")
        try:
            return await self._launch(settings, log, self._init_limit_s)
        except (InitFailed, InitTimedOut):
            log.begin_invocation()
        try:
            return await self._launch(settings, log, settings.timeout_s, request_id)
        except EnvironmentFailure as failure:
            failure.log_tail = log.tail()
            raise

    async def provisioned(self, configuration: Configuration) -> Environment:
        """An environment that is initialised before anybody calls; raises as `fresh`, after one try.

        Its Init has as long as that of a snapshot (Lambda: 130 s, or the function's timeout if that is longer).
        """
        settings = await self._preparing.settings(configuration, "provisioned-concurrency")
        limit_s = max(self._provisioned_limit_s, settings.timeout_s)
        return await self._launch(settings, self.log(configuration), limit_s)

    async def _launch(
        self, settings: FunctionSettings, log: LogStream, limit_s: float, request_id: str = ""
    ) -> Environment:
        environment = await Environment.launch(await self._pool.take(), settings, log)
        try:
            await environment.initialised(limit_s, request_id)
        except BaseException:
            await environment.close()
            raise
        return environment
