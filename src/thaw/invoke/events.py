"""Asynchronous calls: attempts, retries, and what becomes of those that end.

What the function does wrong is retried as often as its configuration says, after one and two minutes. Where there was
no room for a call, or the platform failed, it stays in the queue, with growing pauses, until it is too old. Both rules
are Lambda's ("How Lambda handles errors and retries with asynchronous invocation").
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import msgspec

from thaw.catalog.attachments import EventInvokeConfig
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.catalog.events import Event, Queued
from thaw.catalog.refusals import check_invocable
from thaw.errors import ServiceError
from thaw.invoke.call import Answer, Call
from thaw.invoke.destination import Condition, Outcome, following

logger = logging.getLogger(__name__)

# Lambda's defaults.
RETRIES = 2
GREATEST_AGE_S = 6 * 3600
# Pauses of an event for which there was no room: the first one, and the longest.
SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
# Attempts that run at one time.
AT_ONCE = 256
# The platform's own failures; every other error of a call is the function's.
SYSTEM_ERRORS = frozenset(
    {"TooManyRequestsException", "ServiceException", "ResourceConflictException", "SnapStartNotReadyException"}
)


class EventProcessing:
    """Takes events from the queue and calls their functions.

    `invoke` raises ServiceError where a call did not run. `awaken` begins a new snapshot of a version that is Inactive.
    """

    def __init__(
        self,
        catalog: Catalog,
        invoke: Callable[[Call], Awaitable[Answer]],
        *,
        retry_s: float,
        awaken: Callable[[Configuration], Awaitable[None]],
    ) -> None:
        self._catalog = catalog
        self._queue = catalog.events
        self._invoke = invoke
        self._retry_s = retry_s
        self._awaken = awaken
        self._running: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins, with what an earlier server left; needs a running loop."""
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stops; attempts that run are made again by the next server."""
        tasks = [task for task in (self._loop, *self._running.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def enqueue(self, call: Call) -> None:
        """Takes a call; it survives the server once this returns."""
        configuration = call.configuration
        qualifier = call.invoked_arn.removeprefix(configuration.function_arn).lstrip(":")
        event = Event(
            request_id=call.request_id,
            function_name=configuration.function_name,
            qualifier=qualifier or None,
            function_id=configuration.function_id,
            invoked_arn=call.invoked_arn,
            created=time.time(),
            trace_id=call.trace_id,
        )
        await self._queue.add(event, call.payload)
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._begin_due()
                pause = await self._pause()
            except Exception:
                logger.exception("the queue of asynchronous calls could not be read")
                pause = SHORTEST_PAUSE_S
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _begin_due(self) -> None:
        room = AT_ONCE - len(self._running)
        if room <= 0:
            return
        for queued in await self._queue.due(time.time(), without=list(self._running), limit=room):
            task = asyncio.create_task(self._process(queued))
            self._running[queued.number] = task
            task.add_done_callback(partial(self._done, queued.number))

    async def _pause(self) -> float | None:
        """Seconds until there is something to do; None: until something changes."""
        if len(self._running) >= AT_ONCE:
            return None
        due = await self._queue.next_due(without=list(self._running))
        return None if due is None else min(max(0.0, due - time.time()), LONGEST_PAUSE_S)

    def _done(self, number: int, _: asyncio.Task[None]) -> None:
        self._running.pop(number, None)
        self._changed.set()

    async def _process(self, queued: Queued) -> None:
        try:
            await self._attempt(queued)
        except Exception:
            logger.exception("the event %s could not be processed", queued.event.request_id)
            await self._queue.later(queued.number, queued.event, time.time() + LONGEST_PAUSE_S)

    # --- one attempt -------------------------------------------------------------------------------------------------

    async def _attempt(self, queued: Queued) -> None:
        event = queued.event
        try:
            configuration = await self._catalog.resolve(event.function_name, event.qualifier)
        except ServiceError as error:
            logger.warning("the event %s is dropped: %s", event.request_id, error)
            await self._queue.end(queued.number)
            return
        if event.function_id not in ("", configuration.function_id):
            logger.warning("the event %s is dropped: its function was deleted", event.request_id)
            await self._queue.end(queued.number)
            return
        config = await self._catalog.attachments.get(EventInvokeConfig, event.function_name, event.qualifier)
        if time.time() - event.created > _greatest_age_s(config):
            await self._end(queued, event, configuration, config, "EventAgeExceeded")
            return
        await self._call(queued, configuration, config)

    async def _call(self, queued: Queued, configuration: Configuration, config: EventInvokeConfig | None) -> None:
        event = queued.event
        try:
            await self._awaken(configuration)
            check_invocable(configuration)
            answer = await self._invoke(_call_of(event, queued.payload, configuration))
        except ServiceError as error:
            if error.code in SYSTEM_ERRORS:
                await self._make_wait(queued, configuration, config)
                return
            answer = Answer(
                payload=_error_document(error), executed_version=configuration.version, function_error="Unhandled"
            )
        event = replace(
            event,
            attempts=event.attempts + 1,
            throttled=0,
            last_response=answer.payload.decode(errors="replace"),
            executed_version=answer.executed_version,
        )
        if answer.function_error is None:
            await self._end(queued, event, configuration, config, "Success")
        else:
            await self._retry(queued, event, configuration, config)

    async def _retry(
        self, queued: Queued, event: Event, configuration: Configuration, config: EventInvokeConfig | None
    ) -> None:
        retries = RETRIES if config is None or config.maximum_retry_attempts is None else config.maximum_retry_attempts
        due = time.time() + self._retry_s * event.attempts
        if event.attempts > retries:
            await self._end(queued, event, configuration, config, "RetriesExhausted")
        elif due - event.created > _greatest_age_s(config):
            await self._end(queued, event, configuration, config, "EventAgeExceeded")
        else:
            await self._queue.later(queued.number, event, due)

    async def _make_wait(self, queued: Queued, configuration: Configuration, config: EventInvokeConfig | None) -> None:
        event = replace(queued.event, throttled=queued.event.throttled + 1)
        pause = min(SHORTEST_PAUSE_S * 2 ** min(queued.event.throttled, 20), LONGEST_PAUSE_S)
        last = event.created + _greatest_age_s(config)
        if time.time() >= last:
            await self._end(queued, event, configuration, config, "EventAgeExceeded")
        else:
            await self._queue.later(queued.number, event, min(time.time() + pause, last + 0.001))

    async def _end(
        self,
        queued: Queued,
        event: Event,
        configuration: Configuration,
        config: EventInvokeConfig | None,
        condition: Condition,
    ) -> None:
        outcome = Outcome(
            condition=condition,
            executed_version=event.executed_version,
            response=None if event.last_response is None else event.last_response.encode(),
            function_error=None if condition == "Success" or event.last_response is None else "Unhandled",
        )
        await self._queue.end(queued.number, following(event, queued.payload, outcome, config, configuration))


def _greatest_age_s(config: EventInvokeConfig | None) -> float:
    return GREATEST_AGE_S if config is None or config.maximum_event_age_s is None else config.maximum_event_age_s


def _call_of(event: Event, payload: bytes, configuration: Configuration) -> Call:
    return Call(
        configuration=configuration,
        executed_version=configuration.version,
        invoked_arn=event.invoked_arn,
        payload=payload,
        request_id=event.request_id,
        trace_id=event.trace_id,
    )


def _error_document(error: ServiceError) -> bytes:
    """What a failed restore looks like to a destination."""
    return msgspec.json.encode({"errorType": error.code, "errorMessage": str(error)})
