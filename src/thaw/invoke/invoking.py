"""A call goes in, its answer comes out: the Invoking port of the AWS front."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Mapping

from thaw.catalog.configuration import Configuration
from thaw.environment.execution import Environment, OnAnswer, Phase
from thaw.environment.invocation import Invocation, InvocationResult
from thaw.environment.scarcity import scarce
from thaw.errors import (
    InitFailed,
    InitTimedOut,
    RestoreFailed,
    RestoreHookFailed,
    RestoreTimedOut,
    RuntimeNotFound,
    SandboxError,
    ServiceError,
    StoreError,
    ThawError,
)
from thaw.invoke.assignment import Assignment, Fleet
from thaw.invoke.call import Answer, Call
from thaw.invoke.concurrency import ConcurrencyLimit
from thaw.invoke.launching import Launching
from thaw.invoke.restoring import Restoring
from thaw.observe.metrics import Metrics

logger = logging.getLogger(__name__)

# Clones in a row that could not be made from a snapshot before a new one is taken.
MISSES_BEFORE_RENEWAL = 3
# Environments that may end under a call before the function has seen the event.
ATTEMPTS = 4
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
        metrics: Metrics,
        renew: Callable[[Configuration], None] = lambda configuration: None,
        used: Callable[[Configuration], None] = lambda configuration: None,
    ) -> None:
        self._launching = launching
        self._restoring = restoring
        self._renew = renew
        self._used = used
        self.concurrency = concurrency
        self._metrics = metrics
        self._missed: dict[str, int] = {}
        self._afresh: set[str] = set()
        """Requests for which no further clone is made."""
        self._working: set[asyncio.Task[Answer]] = set()
        """Calls that are answered, and whose extensions still work."""
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
        try:
            shared = await self.concurrency.enter(call.configuration)
        except ServiceError:
            self._record(call, {"Throttles": 1})
            raise
        self._quiet.clear()
        if call.configuration.snapshot_key is not None:
            self._used(call.configuration)
        running = self.concurrency.running_of(call.configuration)
        rest: asyncio.Task[Answer] | None = None
        try:
            answered, rest = await self._invoke(call)
            return answered
        except ServiceError as error:
            self._record(call, {"Throttles" if error.code == "TooManyRequestsException" else "Errors": 1})
            raise
        finally:
            if rest is None:
                self._over(call, running, shared)
            else:  # extensions work on in its environment
                rest.add_done_callback(lambda _: self._over(call, running, shared))

    def _over(self, call: Call, running: int, shared: bool) -> None:
        self._record(call, {"ConcurrentExecutions": running})
        self.concurrency.leave(call.configuration, shared)
        if not self.concurrency.running:
            self._quiet.set()

    async def _invoke(self, call: Call) -> tuple[Answer, asyncio.Task[Answer] | None]:
        """The answer, and what goes on after it, if anything. An environment that ends before the function has seen
        the event costs the call nothing but time."""
        fleet = self.assignment.fleet(call.configuration)
        try:
            for _ in range(ATTEMPTS - 1):
                environment = await self.assignment.obtain(fleet, call.request_id)
                try:
                    return await self._answer(fleet, environment, call)
                except (RestoreFailed, SandboxError) as error:
                    self._begin_afresh(call, environment, error)
            return await self._answer(fleet, await self.assignment.obtain(fleet, call.request_id), call)
        except (InitFailed, InitTimedOut) as failure:
            self._record(call, {"Invocations": 1, "Errors": 1, "Throttles": 0})
            document = Answer(
                payload=failure.payload,
                executed_version=call.executed_version,
                function_error="Unhandled",
                log_tail=failure.log_tail,
            )
            return document, None
        except ThawError as error:
            raise service_error(error) from error
        except OSError as error:
            raise service_error(scarce("What an environment needs", error)) from error
        finally:
            self._afresh.discard(call.request_id)

    def _begin_afresh(self, call: Call, environment: Environment, error: ThawError) -> None:
        """The function has not seen the event: another environment gets it, and no clone is made for it again."""
        key = call.configuration.snapshot_key
        logger.warning("%s starts afresh: %s", call.configuration.qualified_arn, error)
        if key is not None and isinstance(error, RestoreFailed):
            environment.log.platform(f"The snapshot could not be restored: {error} This call starts afresh.")
            self._restoring.forget(key)
            self._afresh.add(call.request_id)
            self._count_missed(call.configuration, key)

    async def _answer(
        self, fleet: Fleet[Environment], environment: Environment, call: Call
    ) -> tuple[Answer, asyncio.Task[Answer] | None]:
        if call.wants_log or not environment.has_extensions:
            return await self._serve(fleet, environment, call), None
        early: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def on_answer(payload: bytes, error_type: str) -> None:
            early.set_result(
                Answer(
                    payload=payload,
                    executed_version=call.executed_version,
                    function_error="Unhandled" if error_type else None,
                    log_tail=environment.log.tail(),
                )
            )

        serving = asyncio.create_task(self._serve(fleet, environment, call, on_answer))
        try:
            await asyncio.wait((serving, early), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            serving.cancel()
            await asyncio.wait((serving,))
            raise
        if serving.done():
            return serving.result(), None
        self._working.add(serving)
        serving.add_done_callback(self._worked)
        return early.result(), serving

    def _worked(self, serving: asyncio.Task[Answer]) -> None:
        """The caller has its answer; what went wrong afterwards is in the function's log, a defect in ours."""
        self._working.discard(serving)
        if not serving.cancelled() and (error := serving.exception()) is not None:
            logger.error("a call ended with an error after its answer", exc_info=error)

    async def _serve(
        self, fleet: Fleet[Environment], environment: Environment, call: Call, on_answer: OnAnswer | None = None
    ) -> Answer:
        """Runs the call to its end; `on_answer` gets the answer where extensions work on after it."""
        usable = False
        try:
            result = await environment.invoke(invocation(call), call.stream, on_answer)
            usable = result.usable
        finally:
            self.assignment.give_back(fleet, environment, usable=usable)
        if result.restore_ms is not None and call.configuration.snapshot_key is not None:
            self._missed.pop(call.configuration.snapshot_key, None)
        self._record(call, measured(result))
        return answer(call, result)

    def _record(self, call: Call, values: Mapping[str, float]) -> None:
        configuration = call.configuration
        qualifier = call.invoked_arn.removeprefix(configuration.function_arn).lstrip(":")
        self._metrics.record(configuration.function_name, qualifier or None, values)

    async def _make(self, configuration: Configuration, request_id: str) -> Environment:
        log = self._launching.log(configuration)
        if configuration.snapshot_key is not None and request_id not in self._afresh:
            clone = await self._restoring.clone(configuration, request_id, log)
            if clone is not None:
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


def measured(result: InvocationResult) -> dict[str, float]:
    """The metrics of a call that ran; a call without an error counts as none of them, as on Lambda."""
    values = {
        "Invocations": 1.0,
        "Errors": float(result.error_type is not None),
        "Throttles": 0.0,
        "Duration": result.duration_ms,
    }
    if result.init_ms is not None:
        values["InitDuration"] = result.init_ms
    if result.restore_ms is not None:
        values["RestoreDuration"] = result.restore_ms
    if result.extensions_ms is not None:
        values["PostRuntimeExtensionsDuration"] = result.extensions_ms
    return values


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
