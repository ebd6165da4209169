"""The protocols of CloudWatch and CloudWatch Logs, driven by real boto3 clients against the application in memory."""

from __future__ import annotations

import json
import math
import os
import struct
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from thaw.api.http import Request
from thaw.api.telemetry import cbor
from thaw.api.telemetry.cloudwatch import CloudWatch
from thaw.api.telemetry.filter_pattern import compile_pattern
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


@pytest.mark.parametrize("pattern", ["{ $.x = 1 }", "[a, b]", '"open'])
def test_other_filter_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(ServiceError) as caught:
        compile_pattern(pattern)
    assert caught.value.code == "InvalidParameterException"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.metrics = Metrics()
        self.logs = Logs(LogReader(folder), region="us-east-1", account_id="000000000000")
        self.telemetry = Telemetry(self.logs, CloudWatch(self.metrics), {})
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
