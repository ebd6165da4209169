"""The queue of asynchronous calls on a real catalog; running a function is replaced by a list of answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from thaw.catalog.attachments import EventInvokeConfig
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.catalog.events import Event
from thaw.errors import ServiceError
from thaw.invoke.call import Answer, Call
from thaw.invoke.events import EventProcessing
from waiting import until

FAILURE = Answer(payload=b'{"errorMessage":"no"}', executed_version="$LATEST", function_error="Unhandled")
SUCCESS = Answer(payload=b'{"did":1}', executed_version="$LATEST")
THROTTLED = ServiceError("TooManyRequestsException", "Rate Exceeded.")


class Bench:
    """Functions f and g; `script` has what calls of f give, then they succeed."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.calls: list[Call] = []
        self.script: list[Answer | ServiceError] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.processing = self.new_processing()

    def new_processing(self) -> EventProcessing:
        return EventProcessing(self.catalog, self.invoke, retry_s=0.01, awaken=self.awaken)

    async def awaken(self, configuration: Configuration) -> None:
        if configuration.state != "Active":
            await self.catalog.set_state(configuration.function_name, configuration.version, state="Active")

    async def invoke(self, call: Call) -> Answer:
        self.calls.append(call)
        await self.gate.wait()
        step = self.script.pop(0) if self.script and call.configuration.function_name == "f" else SUCCESS
        if isinstance(step, ServiceError):
            raise step
        return step

    async def create(self, name: str, **settings: Any) -> None:
        arn = self.catalog.function_arn(name)
        draft = Configuration(function_id=f"id-{name}", function_name=name, function_arn=arn, **settings)
        await self.catalog.create_function(draft, {})
        await self.catalog.set_state(name, "$LATEST", state="Active")

    async def enqueue(self, payload: bytes = b'{"n":1}', request_id: str = "r") -> None:
        latest = await self.catalog.resolve("f")
        call = Call(
            configuration=latest, executed_version="$LATEST", invoked_arn=latest.function_arn, payload=payload,
            request_id=request_id, trace_id="Root=1",
        )  # fmt: skip
        await self.processing.enqueue(call)

    async def configure(self, **settings: Any) -> None:
        config = EventInvokeConfig(**settings)
        await self.catalog.attachments.change(EventInvokeConfig, "f", None, lambda *_: config)

    async def until_empty(self) -> None:
        async def empty() -> bool:
            return await self.catalog.events.size() == 0

        await until(empty)

    def names(self) -> list[str]:
        return [call.configuration.function_name for call in self.calls]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    catalog = Catalog(tmp_path / "catalog.sqlite", region="us-east-1", account_id="000000000000")
    await catalog.open()
    bench = Bench(catalog)
    await bench.create("f", other_members={"DeadLetterConfig": {"TargetArn": catalog.function_arn("letters")}})
    await bench.create("g")
    await bench.create("letters")
    bench.processing.start()
    yield bench
    await bench.processing.close()
    await catalog.close()


async def test_an_event_is_called_once_and_forgotten(bench: Bench) -> None:
    await bench.enqueue()
    await bench.until_empty()
    (call,) = bench.calls
    assert (call.payload, call.request_id, call.trace_id) == (b'{"n":1}', "r", "Root=1")
    assert call.invoked_arn == bench.catalog.function_arn("f")


async def test_an_error_is_retried_twice_under_the_same_request_id_then_goes_to_the_targets(bench: Bench) -> None:
    await bench.configure(on_failure=bench.catalog.function_arn("g"))
    bench.script = [FAILURE] * 3
    await bench.enqueue()
    await bench.until_empty()
    assert bench.names()[:3] == ["f", "f", "f"]
    assert sorted(bench.names()[3:]) == ["g", "letters"]
    assert {call.request_id for call in bench.calls[:3]} == {"r"}
    by_name = {call.configuration.function_name: call for call in bench.calls}
    assert by_name["letters"].payload == b'{"n":1}'
    told = json.loads(by_name["g"].payload)
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "version": "1.0",
        "requestContext": {
            "requestId": "r", "functionArn": bench.catalog.function_arn("f") + ":$LATEST",
            "condition": "RetriesExhausted", "approximateInvokeCount": 3,
        },
        "requestPayload": {"n": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "no"},
    }  # fmt: skip


async def test_success_goes_to_its_destination_also_after_a_retry(bench: Bench) -> None:
    await bench.configure(on_success=bench.catalog.function_arn("g"), maximum_retry_attempts=1)
    bench.script = [FAILURE]
    await bench.enqueue()
    await bench.until_empty()
    assert bench.names() == ["f", "f", "g"]
    told = json.loads(bench.calls[-1].payload)
    assert told["requestContext"]["condition"] == "Success"
    assert told["requestContext"]["approximateInvokeCount"] == 2
    assert told["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert told["responsePayload"] == {"did": 1}


async def test_no_retries_where_none_are_wanted(bench: Bench) -> None:
    await bench.configure(maximum_retry_attempts=0)
    bench.script = [FAILURE]
    await bench.enqueue()
    await bench.until_empty()
    assert bench.names() == ["f", "letters"]


async def test_throttled_events_wait_and_do_not_count_as_attempts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.invoke.events.SHORTEST_PAUSE_S", 0.01)
    await bench.configure(maximum_retry_attempts=0)
    bench.script = [THROTTLED] * 4
    await bench.enqueue()
    await bench.until_empty()
    assert bench.names() == ["f"] * 5


async def test_an_event_that_is_too_old_ends_without_another_attempt(bench: Bench) -> None:
    await bench.configure(maximum_event_age_s=60, on_failure=bench.catalog.function_arn("g"))
    arn = bench.catalog.function_arn("f")
    old = Event(request_id="old", function_name="f", qualifier=None, function_id="id-f", invoked_arn=arn,
                created=time.time() - 61)  # fmt: skip
    await bench.catalog.events.add(old, b"{}")
    await bench.enqueue(request_id="new")
    await bench.until_empty()
    assert [call.request_id for call in bench.calls if call.configuration.function_name == "f"] == ["new"]
    (told,) = [json.loads(call.payload) for call in bench.calls if call.configuration.function_name == "g"]
    assert told["requestContext"]["condition"] == "EventAgeExceeded"
    assert "responseContext" not in told


async def test_what_was_accepted_is_called_by_the_next_server(bench: Bench) -> None:
    bench.gate.clear()
    for number in range(20):
        await bench.enqueue(request_id=str(number))
    await until(lambda: len(bench.calls) == 20)
    await bench.processing.close()
    assert await bench.catalog.events.size() == 20
    bench.calls.clear()
    bench.gate.set()
    bench.processing = bench.new_processing()
    bench.processing.start()
    await bench.until_empty()
    assert sorted(int(call.request_id) for call in bench.calls) == list(range(20))


async def test_events_of_a_deleted_function_are_dropped_even_if_it_was_created_again(bench: Bench) -> None:
    await bench.processing.close()
    await bench.enqueue()
    await bench.catalog.delete_function("f")
    arn = bench.catalog.function_arn("f")
    draft = Configuration(function_id="id-later", function_name="f", function_arn=arn)
    await bench.catalog.create_function(draft, {})
    await bench.catalog.set_state("f", "$LATEST", state="Active")
    bench.processing = bench.new_processing()
    bench.processing.start()
    await bench.until_empty()
    assert bench.calls == []


async def test_a_loop_of_destinations_ends(bench: Bench) -> None:
    await bench.configure(on_success=bench.catalog.function_arn("g"))
    config = EventInvokeConfig(on_success=bench.catalog.function_arn("f"))
    await bench.catalog.attachments.change(EventInvokeConfig, "g", None, lambda *_: config)
    await bench.enqueue()
    await bench.until_empty()
    assert len(bench.calls) == 17


async def test_events_that_come_together_are_all_kept(bench: Bench) -> None:
    bench.gate.clear()
    await asyncio.gather(*(bench.enqueue(request_id=str(number)) for number in range(200)))
    assert await bench.catalog.events.size() == 200
    bench.gate.set()
    await bench.until_empty()
    assert len({call.request_id for call in bench.calls}) == 200


async def test_a_function_that_is_not_ready_is_awakened_and_called_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thaw.invoke.events.SHORTEST_PAUSE_S", 0.01)
    await bench.catalog.set_state("f", "$LATEST", state="Inactive")
    await bench.enqueue()
    await bench.until_empty()
    assert bench.names() == ["f"]
