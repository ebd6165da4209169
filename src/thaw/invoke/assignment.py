"""Which environment serves a call: a warm one, else one that is made for it.

Every version has a fleet of environments of its own. The environment used last is used first (LIFO), so that the rest
grow idle and are closed. A call that finds none idle has one made, and waits in line: whichever environment of the
fleet is free first, new or returned, goes to the call that has waited longest. No more are made at one time than calls
wait, so that a burst of calls that are quicker than an Init does not end in many more environments than it needs.

All of it runs on the event loop without locks; a warm call costs two dictionary look-ups and a list's pop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from thaw.catalog.configuration import Configuration
from thaw.errors import ServiceError

# How often idle environments are looked at, as a share of the time after which they are closed.
REAP_SHARE = 0.25
REAP_PERIOD_S = (0.05, 10.0)


class Assignable(Protocol):
    """The part of an environment that matters here."""

    async def close(self) -> None: ...


E = TypeVar("E", bound=Assignable)


@dataclass(slots=True, eq=False)
class Fleet(Generic[E]):
    """The environments of one version (or of one state of $LATEST).

    `idle` has the one used last at its end, each with the monotonic time of its return. `waiting` are the calls in
    line, and `making` environments are on their way, at least one for each of them. `provisioned` environments are
    kept, whether they are idle or not. `retired` fleets take no environment back.
    """

    configuration: Configuration
    key: tuple[str, str, str]
    idle: deque[tuple[float, E]] = field(default_factory=deque)
    waiting: deque[asyncio.Future[E]] = field(default_factory=deque)
    making: int = 0
    provisioned: set[E] = field(default_factory=set)
    retired: bool = False


class Assignment(Generic[E]):
    """The fleets of one worker.

    `make(configuration, request_id)` makes an environment that is ready for its first invocation, or raises; the
    error reaches the call for which it was made, unless that call was served meanwhile. `alive` says of an idle
    environment whether its process still runs. At most `limit` environments exist at one time. An environment is closed
    after `idle_timeout_s` without a call; 0 closes it after every call, so that each call gets a fresh one. `lost` is
    called where a provisioned environment has ended.
    """

    def __init__(
        self,
        make: Callable[[Configuration, str], Awaitable[E]],
        *,
        limit: int,
        idle_timeout_s: float,
        alive: Callable[[E], bool] = lambda environment: True,
    ) -> None:
        self._make = make
        self._alive = alive
        self._limit = limit
        self._idle_timeout_s = idle_timeout_s
        self._fleets: dict[tuple[str, str], Fleet[E]] = {}
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._making: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.Task[None] | None = None
        self.lost: Callable[[Configuration], None] = lambda configuration: None

    @property
    def count(self) -> int:
        """Environments that exist or are being made."""
        return self._count

    def start(self) -> None:
        """Begins to close idle environments; needs a running loop."""
        self._reaper = asyncio.create_task(self._reap_forever())

    def fleet(self, configuration: Configuration) -> Fleet[E]:
        """The fleet of `configuration`; a changed $LATEST retires the fleet of its former state."""
        name = (configuration.function_id, configuration.version)
        found = self._fleets.get(name)
        if found is not None and found.configuration is configuration:
            return found
        return self._renewed(name, found, configuration)

    def _renewed(self, name: tuple[str, str], found: Fleet[E] | None, configuration: Configuration) -> Fleet[E]:
        key = configuration.environment_key
        if found is not None:
            if found.key == key:
                found.configuration = configuration
                return found
            self._retire(found)
        fleet = self._fleets[name] = Fleet(configuration, key)
        return fleet

    async def obtain(self, fleet: Fleet[E], request_id: str) -> E:
        """An environment of the fleet for one call; `give_back` it afterwards.

        Raises what `make` raised for this call, and ServiceError TooManyRequestsException at the limit.
        """
        while fleet.idle:
            environment = fleet.idle.pop()[1]
            if self._alive(environment):
                return environment
            self._drop(fleet, environment)
        turn: asyncio.Future[E] = asyncio.get_running_loop().create_future()
        if fleet.making <= len(fleet.waiting):
            self._reserve()
            fleet.making += 1
            task = self._spawn(self._make_for(fleet, request_id, turn))
            self._making.add(task)
            task.add_done_callback(self._making.discard)
        fleet.waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(fleet, turn.result(), usable=True)  # it was handed over in the same moment
            else:
                with suppress(ValueError):
                    fleet.waiting.remove(turn)
            raise

    def give_back(self, fleet: Fleet[E], environment: E, *, usable: bool) -> None:
        """Takes an environment back after a call; `usable` says whether it may serve another."""
        if not usable or fleet.retired or (self._idle_timeout_s == 0 and environment not in fleet.provisioned):
            self._drop(fleet, environment)
        else:
            self._offer(fleet, environment)

    def _drop(self, fleet: Fleet[E], environment: E) -> None:
        if environment in fleet.provisioned:
            fleet.provisioned.discard(environment)
            if not fleet.retired:
                self.lost(fleet.configuration)
        self.discard(environment)

    async def provision(
        self, fleet: Fleet[E], count: int, make: Callable[[Configuration], Awaitable[E]], *, at_once: int = 4
    ) -> None:
        """Brings the environments that the fleet keeps to `count`; the first that cannot be made ends this.

        What is too many becomes ordinary. Raises what `make` raises, and ServiceError at the limit.
        """
        while len(fleet.provisioned) > count:
            fleet.provisioned.pop()
        while (missing := count - len(fleet.provisioned)) > 0 and not fleet.retired:
            making = [self._provide(fleet, make) for _ in range(min(missing, at_once))]
            errors = [one for one in await asyncio.gather(*making, return_exceptions=True) if one is not None]
            if errors:
                raise errors[0]

    async def _provide(self, fleet: Fleet[E], make: Callable[[Configuration], Awaitable[E]]) -> None:
        self._reserve()
        try:
            environment = await make(fleet.configuration)
        except BaseException:
            self._count -= 1
            raise
        if fleet.retired:
            self.discard(environment)
            return
        fleet.provisioned.add(environment)
        self._offer(fleet, environment)

    def discard(self, environment: E) -> None:
        """Closes an environment in the background and frees its place."""
        self._spawn(self._close(environment))

    def retire(self, configurations: Iterable[Configuration]) -> None:
        """Closes the environments of configurations that are gone: idle ones now, busy ones after their call."""
        for configuration in configurations:
            fleet = self._fleets.pop((configuration.function_id, configuration.version), None)
            if fleet is not None:
                self._retire(fleet)

    async def close(self) -> None:
        """Closes every idle environment, fails the calls in line, and waits until all are gone.

        Environments that serve a call are closed when it ends: wait for those calls first.
        """
        if self._reaper is not None:
            self._reaper.cancel()
        for task in self._making:
            task.cancel()
        for fleet in self._fleets.values():
            self._retire(fleet)
        self._fleets.clear()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _retire(self, fleet: Fleet[E]) -> None:
        fleet.retired = True
        while fleet.idle:
            self.discard(fleet.idle.pop()[1])

    def _offer(self, fleet: Fleet[E], environment: E) -> None:
        while fleet.waiting:
            turn = fleet.waiting.popleft()
            if not turn.done():
                turn.set_result(environment)
                return
        fleet.idle.append((time.monotonic(), environment))

    def _reserve(self) -> None:
        """Counts one more environment; at the limit the one that is idle for longest makes room."""
        if self._count >= self._limit:
            idle = [
                (since, fleet, environment)
                for fleet in self._fleets.values()
                for since, environment in fleet.idle
                if environment not in fleet.provisioned
            ]
            if not idle:
                raise throttled(self._limit)
            since, fleet, environment = min(idle, key=lambda one: one[0])
            fleet.idle.remove((since, environment))
            self.discard(environment)
        self._count += 1

    async def _make_for(self, fleet: Fleet[E], request_id: str, turn: asyncio.Future[E]) -> None:
        try:
            environment = await self._make(fleet.configuration, request_id)
        except (Exception, asyncio.CancelledError) as error:
            self._count -= 1
            fleet.making -= 1
            self._fail(fleet, turn, error)
            return
        fleet.making -= 1
        if fleet.retired and not fleet.waiting:
            self.discard(environment)
        else:
            self._offer(fleet, environment)

    def _fail(self, fleet: Fleet[E], turn: asyncio.Future[E], error: BaseException) -> None:
        """The error goes to the call for which the environment was made; where another one served that, to the call
        that counted on this one. Where nobody did, why it failed is in the function's log."""
        if turn.done() and fleet.making < len(fleet.waiting):
            turn = next((one for one in fleet.waiting if not one.done()), turn)
        if turn.done():
            return
        with suppress(ValueError):
            fleet.waiting.remove(turn)
        turn.set_exception(stopping() if isinstance(error, asyncio.CancelledError) else error)

    async def _close(self, environment: E) -> None:
        try:
            await environment.close()
        finally:
            self._count -= 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "An environment could not be closed", "exception": error, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _reap_forever(self) -> None:
        shortest, longest = REAP_PERIOD_S
        period = min(longest, max(shortest, self._idle_timeout_s * REAP_SHARE)) if self._idle_timeout_s else longest
        while True:
            await asyncio.sleep(period)
            self.reap(time.monotonic() - self._idle_timeout_s)

    def reap(self, before: float) -> None:
        """Closes environments that are idle since before the monotonic time `before`; misses provisioned ones that
        ended."""
        for fleet in self._fleets.values():
            if fleet.provisioned:
                self._reap_around(fleet, before)
                continue
            while fleet.idle and fleet.idle[0][0] < before:
                self.discard(fleet.idle.popleft()[1])

    def _reap_around(self, fleet: Fleet[E], before: float) -> None:
        kept = deque[tuple[float, E]]()
        for since, environment in fleet.idle:
            if environment in fleet.provisioned and not self._alive(environment):
                self._drop(fleet, environment)
            elif since < before and environment not in fleet.provisioned:
                self.discard(environment)
            else:
                kept.append((since, environment))
        fleet.idle = kept


def throttled(limit: int) -> ServiceError:
    """Lambda's answer at the limit of concurrent invocations."""
    return ServiceError(
        "TooManyRequestsException",
        f"Rate Exceeded. (All {limit} environments of this worker are busy: try again, or raise max_environments.)",
        reason="ConcurrentInvocationLimitExceeded",
    )


def stopping() -> ServiceError:
    """What a call gets that is still in line when the server stops."""
    return ServiceError("ServiceException", "The server is stopping: call again when it is back.", type="Service")
