"""Reserved and account concurrency."""

from __future__ import annotations

from dataclasses import replace

import pytest

from thaw.catalog.configuration import Configuration
from thaw.errors import ServiceError
from thaw.invoke.concurrency import ALWAYS_LEFT, ConcurrencyLimit

FREE = Configuration(function_id="free", function_name="free", function_arn="arn:free", version="1")
RESERVED = replace(FREE, function_id="reserved", reserved_concurrency=2)


def limit(left: int = 1000) -> ConcurrencyLimit:
    async def unreserved() -> int:
        return left

    return ConcurrencyLimit(unreserved)


async def refusal(limit: ConcurrencyLimit, configuration: Configuration) -> str | None:
    with pytest.raises(ServiceError, match="Rate Exceeded") as caught:
        await limit.enter(configuration)
    assert caught.value.code == "TooManyRequestsException"
    return caught.value.reason


async def test_all_versions_of_a_function_share_its_reservation() -> None:
    concurrency = limit()
    first = await concurrency.enter(RESERVED)
    await concurrency.enter(replace(RESERVED, version="2"))
    assert await refusal(concurrency, RESERVED) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert concurrency.running_of(RESERVED) == 2
    concurrency.leave(RESERVED, first)
    await concurrency.enter(RESERVED)
    assert concurrency.running == 2


async def test_a_reservation_of_nothing_stops_all_calls() -> None:
    expected = "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert await refusal(limit(), replace(RESERVED, reserved_concurrency=0)) == expected


async def test_functions_without_a_reservation_share_what_is_left() -> None:
    concurrency = limit(ALWAYS_LEFT + 1)
    for number in range(ALWAYS_LEFT + 1):
        await concurrency.enter(replace(FREE, function_id=str(number)))
    assert await refusal(concurrency, FREE) == "ConcurrentInvocationLimitExceeded"
    await concurrency.enter(RESERVED)
    concurrency.leave(replace(FREE, function_id="0"), True)
    await concurrency.enter(FREE)


async def test_a_reservation_that_came_meanwhile_does_not_unbalance_the_count() -> None:
    concurrency = limit()
    shared = await concurrency.enter(FREE)
    concurrency.leave(replace(FREE, reserved_concurrency=1), shared)
    assert concurrency.running == 0
    for _ in range(ALWAYS_LEFT):
        await concurrency.enter(FREE)
