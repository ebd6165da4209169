"""What surrounds a call: metrics, limits, snapshots that cannot be cloned. Environments are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from thaw.catalog.configuration import Configuration
from thaw.environment.execution import OnAnswer, Phase
from thaw.environment.invocation import Invocation, InvocationResult
from thaw.environment.streaming import ResponseStream
from thaw.errors import InitFailed, RestoreFailed, RestoreTimedOut, SandboxError, ServiceError
from thaw.invoke.call import Call
from thaw.invoke.concurrency import ConcurrencyLimit
from thaw.invoke.invoking import ATTEMPTS, MISSES_BEFORE_RENEWAL, Invoker
from thaw.observe.log_stream import LogStream
from thaw.observe.metrics import Metrics

CONFIGURATION = Configuration(function_id="id", function_name="f", function_arn="arn:f", version="1", snapshot_key="s")


class Stand:
    """An environment; `error_type` is what its call ends with."""

    phase = Phase.IDLE
    has_extensions = False

    def __init__(self, error_type: str | None = None) -> None:
        self.error_type = error_type

    async def invoke(
        self, invocation: Invocation, stream: ResponseStream | None = None, on_answer: OnAnswer | None = None
    ) -> InvocationResult:
        return InvocationResult(
            request_id=invocation.request_id, payload=b"1", error_type=self.error_type, duration_ms=5.0, billed_ms=5,
            max_memory_mib=1, log_tail=b"", usable=False, restore_ms=2.0,
        )  # fmt: skip

    async def close(self) -> None:
        return


class Fresh(Stand):
    """One that was not restored."""

    async def invoke(self, invocation: Invocation, *_: Any) -> InvocationResult:
        return replace(await super().invoke(invocation), restore_ms=None)


class Broken(Stand):
    """One that ends before the function has seen the event."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.log = LogStream(None, "g", "1")

    async def invoke(self, *_: Any) -> InvocationResult:
        raise self.error


class Slow(Stand):
    """Its extensions work on after the answer, until they are told to stop."""

    has_extensions = True

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()
        self.log = LogStream(None, "g", "1")

    async def invoke(
        self, invocation: Invocation, stream: ResponseStream | None = None, on_answer: OnAnswer | None = None
    ) -> InvocationResult:
        assert on_answer is not None
        on_answer(b"early", "Function.Unknown")
        await self.over.wait()
        return replace(await super().invoke(invocation), extensions_ms=70.0)


class Parts:
    """Launching and Restoring: `clone` gives clones, or None, or raises; fresh environments always come."""

    def __init__(self) -> None:
        self.clone_of: Callable[[], Any] = Stand
        self.fresh_of: Callable[[], Any] = Fresh
        self.renewed: list[Configuration] = []
        self.used: list[Configuration] = []
        self.forgotten: list[str] = []
        self.metrics = Metrics()

        async def unreserved() -> int:
            return 1000

        self.invoker = Invoker(
            self, self, max_environments=5, idle_timeout_s=60, concurrency=ConcurrencyLimit(unreserved),  # type: ignore[arg-type]
            metrics=self.metrics, renew=self.renewed.append, used=self.used.append,
        )  # fmt: skip

    def log(self, configuration: Configuration) -> None:
        return

    def forget(self, snapshot_key: str) -> None:
        self.forgotten.append(snapshot_key)

    async def fresh(self, *_: Any) -> Any:
        return self.fresh_of()

    async def clone(self, *_: Any) -> Any:
        return self.clone_of()

    async def call(self, *, wants_log: bool = False, **changes: Any) -> Any:
        configuration = replace(CONFIGURATION, **changes)
        call = Call(
            configuration=configuration, executed_version="1", invoked_arn="arn:f:live", payload=b"{}", request_id="r",
            wants_log=wants_log,
        )  # fmt: skip
        return await self.invoker.invoke(call)

    def total(self, metric: str) -> float | None:
        found = self.metrics.totals.get((metric, "f"))
        return None if found is None else found.total


@pytest.fixture
async def parts() -> Parts:
    return Parts()


async def test_a_call_is_measured_under_the_qualifier_that_was_called(parts: Parts) -> None:
    await parts.call()
    assert [parts.total(name) for name in ("Invocations", "Errors", "Throttles")] == [1.0, 0.0, 0.0]
    assert [parts.total(name) for name in ("Duration", "RestoreDuration", "InitDuration")] == [5.0, 2.0, None]
    assert parts.total("ConcurrentExecutions") == 1.0
    assert ("Duration", (("FunctionName", "f"), ("Resource", "f:live"))) in set(parts.metrics.series())
    assert parts.used == [CONFIGURATION]


async def test_errors_are_counted_wherever_they_come_from(parts: Parts) -> None:
    parts.clone_of = lambda: Stand("Function.Unknown")
    assert (await parts.call()).function_error == "Unhandled"
    parts.clone_of = lambda: None

    def broken() -> Any:
        raise InitFailed("no", error_type="Runtime.ExitError", payload=b"{}")

    parts.fresh_of = broken
    assert (await parts.call()).function_error == "Unhandled"

    def slow() -> Any:
        raise RestoreTimedOut("slow", error_type="Sandbox.Timedout")

    parts.clone_of = slow
    with pytest.raises(ServiceError) as caught:
        await parts.call()
    assert caught.value.code == "SnapStartTimeoutException"
    assert parts.total("Errors") == 3.0
    assert parts.invoker.concurrency.running == 0


async def test_a_throttled_call_is_no_invocation(parts: Parts) -> None:
    with pytest.raises(ServiceError):
        await parts.call(reserved_concurrency=0)
    assert (parts.total("Throttles"), parts.total("Invocations")) == (1.0, None)


async def test_a_snapshot_from_which_no_clone_comes_any_more_is_renewed(parts: Parts) -> None:
    parts.clone_of = lambda: None
    for _ in range(MISSES_BEFORE_RENEWAL - 1):
        await parts.call()
    parts.clone_of = Stand
    await parts.call()
    parts.clone_of = lambda: None
    for _ in range(MISSES_BEFORE_RENEWAL - 1):
        await parts.call()
    assert parts.renewed == []
    await parts.call()
    assert parts.renewed == [CONFIGURATION]


async def test_a_clone_that_never_became_the_function_is_replaced_by_a_fresh_start(parts: Parts) -> None:
    broken, heard = Broken(RestoreFailed("Restoring stopped at chdir.")), list[str]()
    broken.log.subscribe(lambda moment, text: heard.append(text.decode()))
    parts.clone_of = lambda: broken
    assert (await parts.call()).function_error is None
    assert heard == [
        "The snapshot could not be restored: Restoring stopped at chdir. This call starts afresh.",
    ]
    assert parts.forgotten == ["s"]
    assert [parts.total(name) for name in ("Invocations", "Errors")] == [1.0, 0.0]
    for _ in range(MISSES_BEFORE_RENEWAL - 1):
        await parts.call()
    assert parts.renewed == [CONFIGURATION], "a snapshot of which no clone works is replaced"


async def test_environments_that_end_before_they_see_the_event_cost_the_call_nothing_but_time(parts: Parts) -> None:
    made: list[Any] = []

    def clone() -> Any:
        made.append(Stand() if made else Broken(SandboxError("It ended.", step="invoke")))
        return made[-1]

    parts.clone_of = clone
    assert (await parts.call()).function_error is None
    assert len(made) == 2
    parts.clone_of = lambda: Broken(SandboxError("It ended.", step="invoke"))
    with pytest.raises(ServiceError) as caught:
        await parts.call()
    assert (caught.value.code, str(caught.value)) == ("ServiceException", "It ended.")
    assert ATTEMPTS > 2
    assert parts.invoker.concurrency.running == 0


async def test_the_caller_is_answered_while_extensions_work_on(parts: Parts) -> None:
    slow = Slow()
    parts.clone_of = lambda: slow
    answer = await parts.call()
    assert (answer.payload, answer.function_error) == (b"early", "Unhandled")
    assert parts.invoker.concurrency.running == 1, "its environment is not free"
    assert parts.total("Invocations") is None
    slow.over.set()
    await parts.invoker.close(drain_s=10)
    assert parts.invoker.concurrency.running == 0
    assert [parts.total(name) for name in ("Invocations", "PostRuntimeExtensionsDuration")] == [1.0, 70.0]


async def test_a_call_that_is_given_up_ends_with_its_extensions(parts: Parts) -> None:
    slow = Slow()
    early = asyncio.Event()

    async def never(*_: Any) -> InvocationResult:
        early.set()
        await asyncio.Event().wait()
        raise AssertionError

    slow.invoke = never  # type: ignore[method-assign]
    parts.clone_of = lambda: slow
    calling = asyncio.create_task(parts.call())
    await early.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert parts.invoker.concurrency.running == 0


async def test_who_wants_the_log_waits_for_its_end(parts: Parts) -> None:
    """`Slow` would have to be given a place for an early answer."""

    class Patient(Slow):
        async def invoke(
            self, invocation: Invocation, stream: ResponseStream | None = None, on_answer: OnAnswer | None = None
        ) -> InvocationResult:
            assert on_answer is None
            return await Stand.invoke(self, invocation)

    parts.clone_of = Patient
    assert (await parts.call(wants_log=True)).payload == b"1"
