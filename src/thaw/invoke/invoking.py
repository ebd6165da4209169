"""A call goes in, its answer comes out: the Invoking port of the AWS front."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable

from thaw.catalog.configuration import Configuration
from thaw.environment.execution import Environment, Phase
from thaw.environment.invocation import Invocation, InvocationResult
from thaw.errors import (
    InitFailed,
    InitTimedOut,
    RestoreHookFailed,
    RestoreTimedOut,
    RuntimeNotFound,
    SandboxError,
    ServiceError,
    StoreError,
    ThawError,
)
from thaw.invoke.assignment import Assignment
from thaw.invoke.call import Answer, Call
from thaw.invoke.concurrency import ConcurrencyLimit
from thaw.invoke.launching import Launching
from thaw.invoke.restoring import Restoring

logger = logging.getLogger(__name__)

# Clones in a row that could not be made from a snapshot before a new one is taken.
MISSES_BEFORE_RENEWAL = 3
RESTORE_TIMED_OUT = "Lambda couldn't restore the snapshot within the timeout limit."


class Invoker:
    """Finds an environment for each call and runs the call in it.

    `renew(configuration)` asks for a new snapshot of a version whose clones fail again and again, and
    `used(configuration)` is told of every call of a version that has one.
    """

    def __init__(
        self,
        launching: Launching,
        restoring: Restoring,
        *,
        max_environments: int,
        idle_timeout_s: float,
        concurrency: ConcurrencyLimit,
        renew: Callable[[Configuration], None] = lambda configuration: None,
        used: Callable[[Configuration], None] = lambda configuration: None,
    ) -> None:
        self._launching = launching
        self._restoring = restoring
        self._renew = renew
        self._used = used
        self.concurrency = concurrency
        self._missed: dict[str, int] = {}
        self.assignment: Assignment[Environment] = Assignment(
            self._make, limit=max_environments, idle_timeout_s=idle_timeout_s, alive=is_idle
        )
        self._quiet = asyncio.Event()
        self._quiet.set()

    def start(self) -> None:
        """Begins to reap idle environments; needs a running loop."""
        self.assignment.start()

    async def invoke(self, call: Call) -> Answer:
        """Runs the call, of an Active configuration; raises ServiceError where it was not run.

        An error of the function is an answer.
        """
        shared = await self.concurrency.enter(call.configuration)
        self._quiet.clear()
        if call.configuration.snapshot_key is not None:
            self._used(call.configuration)
        try:
            return await self._invoke(call)
        finally:
            self.concurrency.leave(call.configuration, shared)
            if not self.concurrency.running:
                self._quiet.set()

    async def _invoke(self, call: Call) -> Answer:
        fleet = self.assignment.fleet(call.configuration)
        try:
            environment = await self.assignment.obtain(fleet, call.request_id)
        except (InitFailed, InitTimedOut) as failure:
            return Answer(
                payload=failure.payload,
                executed_version=call.executed_version,
                function_error="Unhandled",
                log_tail=failure.log_tail,
            )
        except ThawError as error:
            raise service_error(error) from error
        usable = False
        try:
            result = await environment.invoke(invocation(call))
            usable = result.usable
        finally:
            self.assignment.give_back(fleet, environment, usable=usable)
        return answer(call, result)

    async def _make(self, configuration: Configuration, request_id: str) -> Environment:
        log = self._launching.log(configuration)
        if configuration.snapshot_key is not None:
            clone = await self._restoring.clone(configuration, request_id, log)
            if clone is not None:
                self._missed.pop(configuration.snapshot_key, None)
                return clone
            self._count_missed(configuration, configuration.snapshot_key)
        return await self._launching.fresh(configuration, request_id, log)

    def _count_missed(self, configuration: Configuration, snapshot_key: str) -> None:
        """One clone may fail by chance; a snapshot from which none comes any more is replaced."""
        missed = self._missed[snapshot_key] = self._missed.get(snapshot_key, 0) + 1
        if missed == MISSES_BEFORE_RENEWAL:
            del self._missed[snapshot_key]
            self._renew(configuration)

    async def close(self, *, drain_s: float) -> None:
        """Lets running calls end for up to `drain_s`, then closes every environment."""
        try:
            async with asyncio.timeout(drain_s):
                await self._quiet.wait()
        except TimeoutError:
            running = self.concurrency.running
            logger.warning("stopping although %d calls still run: they took longer than %.0f s", running, drain_s)
        await self.assignment.close()


def is_idle(environment: Environment) -> bool:
    """Whether it can take an invocation: an idle environment ends when its process does (out of memory, say)."""
    return environment.phase is Phase.IDLE


def invocation(call: Call) -> Invocation:
    """The call as the runtime receives it; a client context that is not base64 of text is left out, as on Lambda."""
    return Invocation(
        request_id=call.request_id,
        payload=call.payload,
        invoked_arn=call.invoked_arn,
        client_context=None if call.client_context is None else _client_context(call.client_context),
        trace_id=call.trace_id,
    )


def _client_context(header: str) -> str | None:
    try:
        return base64.b64decode(header, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def answer(call: Call, result: InvocationResult) -> Answer:
    """The result as the caller receives it."""
    return Answer(
        payload=result.payload,
        executed_version=call.executed_version,
        function_error=result.function_error,
        log_tail=result.log_tail,
    )


def service_error(error: ThawError) -> ServiceError:
    """The API error of a call for which no environment could be had."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RestoreTimedOut):
        return ServiceError("SnapStartTimeoutException", RESTORE_TIMED_OUT)
    if isinstance(error, RestoreHookFailed):
        return ServiceError("SnapStartException", str(error))
    if isinstance(error, RuntimeNotFound):
        return ServiceError("InvalidRuntimeException", str(error))
    if isinstance(error, SandboxError | StoreError):
        logger.error("no environment: %s", error)
        return ServiceError("ServiceException", str(error), type="Service")
    logger.error("no environment", exc_info=error)
    return ServiceError("ServiceException", str(error), type="Service")
