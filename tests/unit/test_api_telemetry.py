"""The protocols of CloudWatch and CloudWatch Logs, driven by real boto3 clients against the application in memory."""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from thaw.api.http import Request
from thaw.api.telemetry import cbor
from thaw.api.telemetry.cloudwatch import CloudWatch
from thaw.api.telemetry.filter_pattern import compile_pattern
from thaw.api.telemetry.live_tail import MOST_EVENTS, LiveTail
from thaw.api.telemetry.logs import Logs
from thaw.api.telemetry.prometheus import Exposition
from thaw.api.telemetry.telemetry import Telemetry
from thaw.errors import ServiceError
from thaw.observe.log_reader import LogReader
from thaw.observe.log_stream import LogStream
from thaw.observe.metrics import Metrics

GROUP = "/aws/lambda/f"


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 23, 24, 255, 256, 65536, 1 << 40, -1, -500, 1.5, math.inf, "", "é" * 300, b"\x00\xff",
        [], [1, [2, {"a": None}]], {"a": {"b": []}}, datetime(2026, 1, 30, 12, tzinfo=UTC),
    ],
)  # fmt: skip
def test_cbor_comes_back(value: Any) -> None:
    assert cbor.decode(cbor.encode(value)) == value


def test_cbor_of_other_writers() -> None:
    assert cbor.decode(b"\xbf\x61a\x9f\x01\x02\xff\x61b\x7f\x61x\x61y\xff\xff") == {"a": [1, 2], "b": "xy"}
    assert cbor.decode(b"\xf9\x3c\x00") == 1.0
    assert cbor.decode(b"\xfa" + struct.pack(">f", 2.5)) == 2.5
    assert cbor.decode(b"\xf7") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\xc1\xfb\xc3\x9a\x35" + bytes(5), b"\xc1\xfb\x7f\xf8" + bytes(6), b"\xc1\x1b\xff" + bytes(7), b"\x01\x01",
     b"\x9f", b"\x82\x01", b"\x9b" + b"\xff" * 8, b"\x1f", b"\x81" * 100 + b"\x01", b"\x62\xff\xff",
     b"\xf8\x20", b"\xa1\x80\x01", b"\xff", b"\xc1\x61a", b"\xbf\x01\xff"],
)  # fmt: skip
def test_what_is_no_cbor_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        cbor.decode(content)


def test_random_bytes_never_end_in_anything_else() -> None:
    for _ in range(3000):
        try:
            cbor.decode(os.urandom(40))
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["REPORT x", "ERROR a b", "a"]), ("ERROR", ["ERROR a b"]), ("a b", ["ERROR a b"]),
        ('"a b"', ["ERROR a b"]), ("?REPORT ?ERROR", ["REPORT x", "ERROR a b"]), ("-ERROR a", ["a"]),
    ],
)  # fmt: skip
def test_filter_patterns(pattern: str, found: list[str]) -> None:
    matches = compile_pattern(pattern)
    assert [message for message in ("REPORT x", "ERROR a b", "a") if matches(message)] == found


MESSAGES = {
    "error": '{"level": "ERROR", "n": 5, "user": {"name": "anna b"}, "tags": ["x", "y"], "gone": null, "ok": true}',
    "info": '{"level": "INFO", "n": 7.5, "user": {"name": "bob"}, "tags": [], "ok": false, "odd key": 1}',
    "text": "level = ERROR", "broken": '{"level": "ERROR"', "list": '["ERROR"]',
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ('{ $.level = "ERROR" }', ["error"]), ("{$.level=ERROR}", ["error"]), ('{ $.level != "ERROR" }', ["info"]),
        ("{ $.level = *R* }", ["error"]), ("{ $.level = * }", ["error", "info"]), ("{ $.n = 5 }", ["error"]),
        ("{ $.n >= 5 }", ["error", "info"]), ("{ $.n > 5.0 && $.n < 8 }", ["info"]), ("{ $.n <= -1 }", []),
        ('{ $.n = "5" }', []), ('{ $.user.name = "anna b" }', ["error"]), ("{ $.tags[1] = y }", ["error"]),
        ("{ $['odd key'] = 1 }", ["info"]), ("{ $.gone IS NULL }", ["error"]), ("{ $.ok IS TRUE }", ["error"]),
        ("{ $.ok is false }", ["info"]), ("{ $.gone NOT EXISTS }", ["info"]), ("{ $.none != 1 }", []),
        ("{ ($.n = 5 || $.n = 7.5) && $.ok IS FALSE }", ["info"]),
        ("{ $.n = 5 || $.n = 7.5 && $.ok IS TRUE }", ["error"]), ("{ $.level > 3 }", []),
    ],
)  # fmt: skip
def test_filter_patterns_of_json(pattern: str, found: list[str]) -> None:
    matches = compile_pattern(pattern)
    assert [name for name, message in MESSAGES.items() if matches(message)] == found


@pytest.mark.parametrize(
    "pattern",
    [
        "[a, b]", '"open', "{ $.x = 1", "{ }", "{ $.x }", "{ $.x = }", "{ x = 1 }", "{ $.x = 1 $.y = 2 }",
        "{ ($.x = 1 }", "{ $.x < y }", "{ $.x IS 5 }", "{ $.x NOT NULL }", "{ $ = 1 }", "{ $.x = 1 && }",
        "{ " + "(" * 500 + "$.x = 1" + ")" * 500 + " }", "{ $.x ~ 1 }", "%regular%",
    ],
)  # fmt: skip
def test_other_filter_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ServiceError) as caught:
        compile_pattern(pattern)
    assert caught.value.code == "InvalidParameterException"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.metrics = Metrics()
        self.logs = Logs(LogReader(folder), region="us-east-1", account_id="000000000000")
        self.live_tail = LiveTail(self.logs.find, self.logs.arn, period_s=0.01, longest_s=600)
        self.telemetry = Telemetry(self.logs, CloudWatch(self.metrics), self.live_tail, {})
        self.folder = folder

    async def ask(self, body: bytes, path: str = "/", **headers: str) -> tuple[int, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(request_id="r", method="POST", raw_path=path, query={}, headers=names, base_url="")
        asked = self.telemetry.find(request)
        assert asked is not None
        response = await self.telemetry.answer(asked, request, body)
        return response.status, response.body

    async def logs_of(self, operation: str, **arguments: Any) -> Any:
        body = json.dumps(arguments).encode()
        status, answer = await self.ask(body, x_amz_target=f"Logs_20140328.{operation}")
        assert status == 200, answer
        return json.loads(answer)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def write(bench: Bench, *lines: str, group: str = GROUP) -> LogStream:
    time.sleep(0.002)  # Events of one millisecond come in the order of their streams' names, which are random.
    stream = LogStream(bench.folder, group, "$LATEST")
    for line in lines:
        stream.append([line.encode()])
    stream.close()
    return stream


async def test_groups_have_the_names_that_they_were_given(bench: Bench) -> None:
    for name in (GROUP, "plain", "/aws/lambda/g"):
        write(bench, "line", group=name)
    groups = (await bench.logs_of("DescribeLogGroups"))["logGroups"]
    assert [one["logGroupName"] for one in groups] == ["/aws/lambda/f", "/aws/lambda/g", "plain"]
    found = await bench.logs_of("DescribeLogGroups", logGroupNamePrefix="/aws", limit=1)
    assert [one["logGroupName"] for one in found["logGroups"]] == [GROUP]
    found = await bench.logs_of("DescribeLogGroups", logGroupNamePrefix="/aws", nextToken=found["nextToken"])
    assert [one["logGroupName"] for one in found["logGroups"]] == ["/aws/lambda/g"]


async def test_events_of_a_stream_are_paged_in_both_directions(bench: Bench) -> None:
    stream = write(bench, *"abcde")
    named = {"logGroupName": GROUP, "logStreamName": stream.name, "limit": 2}
    messages = lambda answer: "".join(one["message"] for one in answer["events"])  # noqa: E731
    last = await bench.logs_of("GetLogEvents", **named)
    assert messages(last) == "de"
    before = await bench.logs_of("GetLogEvents", **named, nextToken=last["nextBackwardToken"])
    assert messages(before) == "bc"
    assert messages(await bench.logs_of("GetLogEvents", **named, nextToken=before["nextForwardToken"])) == "de"
    end = await bench.logs_of("GetLogEvents", **named, nextToken=last["nextForwardToken"])
    assert (end["events"], end["nextForwardToken"]) == ([], last["nextForwardToken"])
    assert messages(await bench.logs_of("GetLogEvents", **named, startFromHead=True)) == "ab"


async def test_events_of_all_streams_are_filtered_by_time_and_pattern(bench: Bench) -> None:
    first, second = write(bench, "one ERROR", "two"), write(bench, "three ERROR")
    found = await bench.logs_of("FilterLogEvents", logGroupName=GROUP, filterPattern="ERROR")
    assert [(one["logStreamName"], one["message"]) for one in found["events"]] == [
        (first.name, "one ERROR"),
        (second.name, "three ERROR"),
    ]
    assert len({one["eventId"] for one in found["events"]}) == 2
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await bench.logs_of("FilterLogEvents", logGroupName=GROUP, limit=1, **token)
        seen += [one["message"] for one in page["events"]]
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert sorted(seen) == ["one ERROR", "three ERROR", "two"]
    later = found["events"][-1]["timestamp"] + 1
    assert (await bench.logs_of("FilterLogEvents", logGroupName=GROUP, startTime=later))["events"] == []
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
    streams = await bench.logs_of(
        "DescribeLogStreams", logGroupIdentifier=arn, orderBy="LastEventTime", descending=True
    )
    assert {one["logStreamName"] for one in streams["logStreams"]} == {first.name, second.name}


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("Logs_20140328.GetLogEvents", b'{"logGroupName": "/nothing", "logStreamName": "x"}',
         "ResourceNotFoundException"),
        ("Logs_20140328.GetLogEvents", b'{"logGroupName": 1}', "ValidationError"),
        ("Logs_20140328.GetLogEvents", b"[", "SerializationException"),
        ("Logs_20140328.PutLogEvents", b"{}", "UnknownOperationException"),
        ("Logs_20140328.FilterLogEvents", b'{"logGroupName": "../../etc"}', "ResourceNotFoundException"),
        ("GraniteServiceVersion20100801.GetMetricStatistics", b"{}", "ValidationError"),
    ],
)  # fmt: skip
async def test_errors_name_their_exception(bench: Bench, target: str, body: bytes, code: str) -> None:
    status, answer = await bench.ask(body, x_amz_target=target)
    assert (status, json.loads(answer)["__type"]) == (400, code)


async def test_the_query_protocol(bench: Bench) -> None:
    bench.metrics.record("f", None, {"Duration": 2.0})
    form = (
        "Action=GetMetricStatistics&Namespace=AWS%2FLambda&MetricName=Duration&Period=60&StartTime=2020-01-01T00:00:00Z"
        "&EndTime=2100-01-01T00:00:00Z&Statistics.member.1=Sum&Dimensions.member.1.Name=FunctionName"
        "&Dimensions.member.1.Value=f"
    )
    content_type = "application/x-www-form-urlencoded; charset=utf-8"
    status, body = await bench.ask(form.encode(), content_type=content_type)
    assert status == 200
    assert b"<GetMetricStatisticsResult>" in body
    assert b"<Sum>2.0</Sum>" in body
    status, body = await bench.ask(b"Action=PutMetricData", content_type=content_type)
    assert (status, b"<Code>UnknownOperationException</Code>" in body) == (400, True)


async def test_prometheus_reads_counts_and_times(bench: Bench) -> None:
    bench.metrics.record("f", None, {"Invocations": 1.0, "Duration": 250.0})
    text = Exposition(bench.metrics).answer().body.decode()
    assert 'thaw_invocations_total{function_name="f"} 1.0' in text
    assert 'thaw_duration_seconds_sum{function_name="f"} 0.25' in text


# -- StartLiveTail --

ARN = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f"


async def session(bench: Bench, **asked: Any) -> AsyncIterator[tuple[str, Any]]:
    """Kind and document of each message, as botocore's reader of event streams takes them apart."""
    reader = EventStreamBuffer()
    started = await bench.live_tail.start({"logGroupIdentifiers": ["/aws/lambda/f"], **asked}, "request")
    async for piece in started:
        reader.add_data(piece)
        for message in reader:
            kind = message.headers.get(":event-type") or message.headers[":exception-type"]
            yield kind, json.loads(message.payload)


async def results(found: AsyncIterator[tuple[str, Any]], count: int) -> list[Any]:
    """The next `count` events, however many updates they come in."""
    events: list[Any] = []
    async for kind, document in found:
        assert kind == "sessionUpdate"
        assert len(document["sessionResults"]) <= MOST_EVENTS
        events += document["sessionResults"]
        if len(events) >= count:
            return events
    raise AssertionError(f"only {len(events)} events came")


def written(bench: Bench, *lines: bytes, version: str = "1") -> LogStream:
    stream = LogStream(bench.folder, "/aws/lambda/f", version)
    stream.append(list(lines))
    return stream


async def test_a_live_tail_has_what_is_written_from_now_on(bench: Bench) -> None:
    stream = written(bench, b"before")
    found = session(bench, logEventFilterPattern="-not")
    assert (await anext(found))[0] == "initial-response"
    kind, start = await anext(found)
    assert kind == "sessionStart"
    assert (start["requestId"], start["logGroupIdentifiers"]) == ("request", [ARN])
    assert start["logEventFilterPattern"] == "-not"
    stream.append([b"one", b"not this"])
    other = written(bench, b"two")
    events = await results(found, 2)
    said = {(one["message"], one["logStreamName"]) for one in events}
    assert said == {("one", stream.name), ("two", other.name)}  # of one millisecond, perhaps: in any order
    assert all(one["logGroupIdentifier"] == ARN for one in events)
    stream.append([b"many"] * (2 * MOST_EVENTS + 1))
    assert len(await results(found, 2 * MOST_EVENTS + 1)) == 2 * MOST_EVENTS + 1
    bench.live_tail.stop()
    assert [kind async for kind, _ in found if kind != "sessionUpdate"] == []


async def test_a_live_tail_of_some_streams(bench: Bench) -> None:
    first, second = written(bench, b"x", version="1"), written(bench, b"x", version="2")
    by_name = session(bench, logStreamNames=[second.name])
    by_prefix = session(bench, logStreamNamePrefixes=[first.name[:14]])
    for found in (by_name, by_prefix):
        assert [(await anext(found))[0], (await anext(found))[0]] == ["initial-response", "sessionStart"]
    first.append([b"of the first"])
    second.append([b"of the second"])
    assert [one["message"] for one in await results(by_name, 1)] == ["of the second"]
    assert [one["message"] for one in await results(by_prefix, 1)] == ["of the first"]
    bench.live_tail.stop()


async def test_a_live_tail_ends_after_its_time(bench: Bench) -> None:
    written(bench, b"x")
    bench.live_tail = LiveTail(bench.logs.find, bench.logs.arn, period_s=0.01, longest_s=0)
    found = [one async for one in session(bench)]
    assert found[-1] == ("SessionTimeoutException", {"message": "The session timed out."})


@pytest.mark.parametrize(
    ("asked", "code", "message"),
    [
        ({"logGroupIdentifiers": ["/none"]}, "ResourceNotFoundException", "The specified log group does not exist."),
        (
            {"logStreamNames": ["a"], "logStreamNamePrefixes": ["b"]},
            "InvalidParameterException",
            "logStreamNames and logStreamNamePrefixes are mutually exclusive parameters.",
        ),
        (
            {"logStreamNames": ["a"], "logGroupIdentifiers": ["a", "b"]},
            "InvalidParameterException",
            "logStreamNames and logStreamNamePrefixes need exactly one log group: name one in logGroupIdentifiers.",
        ),
    ],
)
async def test_a_live_tail_that_cannot_begin(bench: Bench, asked: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(ServiceError) as caught:
        await anext(session(bench, **asked))
    assert (caught.value.code, caught.value.message) == (code, message)
