"""Assignment: reuse, the line, limits, retirement. Environments here are counters: the policy is what is tested."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from thaw.catalog.configuration import Configuration
from thaw.errors import InitFailed, ServiceError
from thaw.invoke.assignment import Assignment

CONFIGURATION = Configuration(
    function_id="id", function_name="f", function_arn="arn:aws:lambda:us-east-1:000000000000:function:f", version="1"
)


class Fake:
    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


class Maker:
    """Makes numbered environments; `gate` holds back makings, `failure` makes them fail."""

    def __init__(self) -> None:
        self.made: list[Fake] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def __call__(self, configuration: Configuration, request_id: str) -> Fake:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.made.append(Fake(len(self.made)))
        return self.made[-1]


@pytest.fixture
async def maker() -> Maker:
    return Maker()


@pytest.fixture
async def assignment(maker: Maker) -> AsyncIterator[Assignment[Fake]]:
    assignment = Assignment(maker, limit=3, idle_timeout_s=60)
    yield assignment
    await assignment.close()
    assert assignment.count == 0
    assert all(environment.closed for environment in maker.made)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_environment_used_last_is_used_first(assignment: Assignment[Fake], maker: Maker) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    first, second = await assignment.obtain(fleet, "a"), await assignment.obtain(fleet, "b")
    assignment.give_back(fleet, first, usable=True)
    assignment.give_back(fleet, second, usable=True)
    assert await assignment.obtain(fleet, "c") is second
    assert await assignment.obtain(fleet, "d") is first
    assignment.give_back(fleet, first, usable=True)
    assignment.give_back(fleet, second, usable=True)
    assert len(maker.made) == 2


async def test_a_returned_environment_goes_to_the_call_that_waited_longest(
    assignment: Assignment[Fake], maker: Maker
) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    busy = await assignment.obtain(fleet, "a")
    maker.gate.clear()
    waiting = [asyncio.create_task(assignment.obtain(fleet, name)) for name in "bc"]
    await settled()
    assignment.give_back(fleet, busy, usable=True)
    assert await waiting[0] is busy
    maker.gate.set()
    assert await waiting[1] is maker.made[1]
    await settled()
    assert assignment.count == 3  # the environment that was made for the first call is kept
    for environment in maker.made[:2]:
        assignment.give_back(fleet, environment, usable=True)


async def test_an_unusable_environment_is_closed(assignment: Assignment[Fake], maker: Maker) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    assignment.give_back(fleet, await assignment.obtain(fleet, "a"), usable=False)
    await settled()
    assert maker.made[0].closed
    assert assignment.count == 0


async def test_at_the_limit_calls_are_throttled_and_places_come_back(
    assignment: Assignment[Fake], maker: Maker
) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    held = [await assignment.obtain(fleet, str(number)) for number in range(3)]
    with pytest.raises(ServiceError) as caught:
        await assignment.obtain(fleet, "one too many")
    assert caught.value.code == "TooManyRequestsException"
    assert caught.value.reason == "ConcurrentInvocationLimitExceeded"
    assignment.give_back(fleet, held.pop(), usable=False)
    await settled()
    held.append(await assignment.obtain(fleet, "now"))
    for environment in held:
        assignment.give_back(fleet, environment, usable=True)


async def test_at_the_limit_another_functions_idle_environment_makes_room(
    assignment: Assignment[Fake], maker: Maker
) -> None:
    idle = assignment.fleet(CONFIGURATION)
    for environment in [await assignment.obtain(idle, str(number)) for number in range(3)]:
        assignment.give_back(idle, environment, usable=True)
    other = assignment.fleet(replace(CONFIGURATION, function_id="other"))
    assignment.give_back(other, await assignment.obtain(other, "x"), usable=True)
    await settled()
    assert [environment.closed for environment in maker.made] == [True, False, False, False]


async def test_a_failed_making_fails_its_own_call_only(assignment: Assignment[Fake], maker: Maker) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    maker.failure = InitFailed("no module named x", error_type="Runtime.ImportModuleError")
    with pytest.raises(InitFailed):
        await assignment.obtain(fleet, "a")
    assert assignment.count == 0
    maker.failure = None
    assignment.give_back(fleet, await assignment.obtain(fleet, "b"), usable=True)


async def test_a_failed_making_does_not_reach_a_call_that_was_served(
    assignment: Assignment[Fake], maker: Maker
) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    busy = await assignment.obtain(fleet, "a")
    maker.gate.clear()
    waiting = asyncio.create_task(assignment.obtain(fleet, "b"))
    await settled()
    assignment.give_back(fleet, busy, usable=True)
    maker.failure = InitFailed("late", error_type="Runtime.ExitError")
    maker.gate.set()
    assert await waiting is busy
    await settled()
    assert assignment.count == 1
    assignment.give_back(fleet, busy, usable=True)


async def test_quick_calls_do_not_have_more_made_than_wait_at_one_time(
    assignment: Assignment[Fake], maker: Maker
) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    busy = await assignment.obtain(fleet, "first")
    maker.gate.clear()
    for number in range(20):  # each is served by the environment that the one before it gives back
        call = asyncio.create_task(assignment.obtain(fleet, str(number)))
        await settled()
        assignment.give_back(fleet, busy, usable=True)
        assert await call is busy
    assert (assignment.count, fleet.making) == (2, 1)
    maker.gate.set()
    await settled()
    assert (len(maker.made), fleet.making) == (2, 0)
    assignment.give_back(fleet, busy, usable=True)


async def test_a_failed_making_reaches_the_call_that_counted_on_it(assignment: Assignment[Fake], maker: Maker) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    busy = await assignment.obtain(fleet, "a")
    maker.gate.clear()
    served = asyncio.create_task(assignment.obtain(fleet, "b"))
    await settled()
    assignment.give_back(fleet, busy, usable=True)
    assert await served is busy
    waiting = asyncio.create_task(assignment.obtain(fleet, "c"))  # nothing more is made for it
    await settled()
    maker.failure = InitFailed("no", error_type="Runtime.ExitError", payload=b"{}")
    maker.gate.set()
    with pytest.raises(InitFailed):
        await waiting
    assert (assignment.count, fleet.making, len(fleet.waiting)) == (1, 0, 0)
    assignment.give_back(fleet, busy, usable=True)


async def test_a_cancelled_call_leaves_its_environment_to_the_next(assignment: Assignment[Fake], maker: Maker) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    maker.gate.clear()
    waiting = asyncio.create_task(assignment.obtain(fleet, "a"))
    await settled()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    maker.gate.set()
    await settled()
    assert not fleet.waiting
    assert await assignment.obtain(fleet, "b") is maker.made[0]
    assignment.give_back(fleet, maker.made[0], usable=True)


async def test_a_change_of_state_keeps_the_fleet_and_a_change_of_code_retires_it(
    assignment: Assignment[Fake], maker: Maker
) -> None:
    latest = replace(CONFIGURATION, version="$LATEST", settings_digest="old")
    fleet = assignment.fleet(latest)
    busy, idle = await assignment.obtain(fleet, "a"), await assignment.obtain(fleet, "b")
    assignment.give_back(fleet, idle, usable=True)
    assert assignment.fleet(replace(latest, state="Active", revision_id="2")) is fleet
    changed = assignment.fleet(replace(latest, settings_digest="new"))
    assert changed is not fleet
    await settled()
    assert idle.closed
    assert not busy.closed
    assignment.give_back(fleet, busy, usable=True)
    await settled()
    assert busy.closed


async def test_a_deleted_function_loses_its_environments(assignment: Assignment[Fake], maker: Maker) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    assignment.give_back(fleet, await assignment.obtain(fleet, "a"), usable=True)
    assignment.retire([CONFIGURATION])
    await settled()
    assert maker.made[0].closed


async def test_idle_environments_are_reaped_oldest_first(assignment: Assignment[Fake], maker: Maker) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    old, new = await assignment.obtain(fleet, "a"), await assignment.obtain(fleet, "b")
    assignment.give_back(fleet, old, usable=True)
    between = time.monotonic()
    assignment.give_back(fleet, new, usable=True)
    assignment.reap(between)
    await settled()
    assert (old.closed, new.closed) == (True, False)


async def test_without_idle_time_every_call_gets_a_fresh_environment(maker: Maker) -> None:
    assignment = Assignment(maker, limit=3, idle_timeout_s=0)
    fleet = assignment.fleet(CONFIGURATION)
    for _ in range(2):
        assignment.give_back(fleet, await assignment.obtain(fleet, "a"), usable=True)
    assert len(maker.made) == 2
    await assignment.close()
    assert all(environment.closed for environment in maker.made)


async def test_calls_in_line_are_told_when_the_server_stops(maker: Maker) -> None:
    assignment = Assignment(maker, limit=3, idle_timeout_s=60)
    maker.gate.clear()
    waiting = asyncio.create_task(assignment.obtain(assignment.fleet(CONFIGURATION), "a"))
    await settled()
    await assignment.close()
    with pytest.raises(ServiceError, match="stopping"):
        await waiting


async def test_an_idle_environment_whose_process_ended_is_not_used(maker: Maker) -> None:
    assignment = Assignment(maker, limit=3, idle_timeout_s=60, alive=lambda environment: environment.number != 0)
    fleet = assignment.fleet(CONFIGURATION)
    assignment.give_back(fleet, await assignment.obtain(fleet, "a"), usable=True)
    second = await assignment.obtain(fleet, "b")
    assert second.number == 1
    assignment.give_back(fleet, second, usable=True)
    await assignment.close()
    assert all(environment.closed for environment in maker.made)


async def made(maker: Maker, configuration: Configuration) -> Fake:
    return await maker(configuration, "")


async def test_provisioned_environments_are_neither_reaped_nor_pushed_out(
    assignment: Assignment[Fake], maker: Maker
) -> None:
    fleet = assignment.fleet(CONFIGURATION)
    await assignment.provision(fleet, 2, lambda configuration: made(maker, configuration))
    assert len(fleet.provisioned) == 2
    assert await assignment.obtain(fleet, "a") in fleet.provisioned
    assert await assignment.obtain(fleet, "b") in fleet.provisioned
    spilled = await assignment.obtain(fleet, "c")
    for environment in maker.made:
        assignment.give_back(fleet, environment, usable=True)
    assignment.reap(time.monotonic() + 1)
    await settled()
    assert [environment.closed for environment in maker.made] == [False, False, True]
    assert spilled is maker.made[2]
    other = assignment.fleet(replace(CONFIGURATION, version="2"))
    await assignment.obtain(other, "d")
    with pytest.raises(ServiceError):
        await assignment.obtain(other, "e")
    assignment.give_back(other, maker.made[3], usable=True)
    await assignment.provision(fleet, 0, lambda configuration: made(maker, configuration))
    assignment.reap(time.monotonic() + 1)
    await settled()
    assert all(environment.closed for environment in maker.made)


async def test_a_provisioned_environment_that_ends_is_missed(assignment: Assignment[Fake], maker: Maker) -> None:
    lost: list[Configuration] = []
    assignment.lost = lost.append
    fleet = assignment.fleet(CONFIGURATION)
    await assignment.provision(fleet, 1, lambda configuration: made(maker, configuration))
    assignment.give_back(fleet, await assignment.obtain(fleet, "a"), usable=False)
    assert lost == [CONFIGURATION]
    assert fleet.provisioned == set()
    maker.failure = InitFailed("no", error_type="Runtime.ExitError")
    with pytest.raises(InitFailed):
        await assignment.provision(fleet, 2, lambda configuration: made(maker, configuration))
    await settled()
    assert assignment.count == 0
