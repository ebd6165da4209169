"""Lambda's log lines, letter by letter, and the log stream."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from thaw.observe import platform_lines as lines
from thaw.observe.log_reader import LogReader
from thaw.observe.log_stream import LogStream, stream_name
from thaw.observe.platform_lines import Ending, Report
from thaw.observe.platform_log import ApplicationFilter, Subject, platform_log

ARN = "arn:aws:lambda:us-east-1::runtime:00"


def test_start_lines() -> None:
    assert (
        lines.init_start("java:11.v20", ARN) == f"INIT_START Runtime Version: java:11.v20\tRuntime Version ARN: {ARN}"
    )
    assert (
        lines.restore_start("java:11.v20", ARN)
        == f"RESTORE_START Runtime Version: java:11.v20\tRuntime Version ARN: {ARN}"
    )
    assert lines.start("id", "72") == "START RequestId: id Version: 72"
    assert lines.end("id") == "END RequestId: id"


def test_init_report() -> None:
    assert lines.init_report(6160.85) == "INIT_REPORT Init Duration: 6160.85 ms"
    failed = lines.init_report(1236.04, Ending("error", "Extension.Crash"))
    assert failed == "INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: error\tError Type: Extension.Crash"


def test_restore_report() -> None:
    assert lines.restore_report(398.97) == "RESTORE_REPORT Restore Duration: 398.97 ms"
    assert lines.restore_report(1.0, Ending("timeout")) == "RESTORE_REPORT Restore Duration: 1.00 ms\tStatus: timeout"
    assert (
        lines.restore_report(1.0, Ending("error", "Runtime.ExitError"))
        == "RESTORE_REPORT Restore Duration: 1.00 ms\tStatus: error\tError Type: Runtime.ExitError"
    )


def test_report_of_a_clone_is_the_recorded_one() -> None:
    report = Report(
        request_id="i",
        duration_ms=2338.66,
        memory_mib=3009,
        max_memory_mib=173,
        restore_ms=398.97,
        billed_restore_ms=182,
    )
    assert lines.report(report) == (
        "REPORT RequestId: i\tDuration: 2338.66 ms\tBilled Duration: 2521 ms\tMemory Size: 3009 MB\t"
        "Max Memory Used: 173 MB\tRestore Duration: 398.97 ms\tBilled Restore Duration: 182 ms\t"
    )


def test_report_of_a_warm_call_and_of_a_timeout() -> None:
    warm = Report(request_id="i", duration_ms=1.001, memory_mib=128, max_memory_mib=30)
    assert lines.report(warm) == (
        "REPORT RequestId: i\tDuration: 1.00 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 30 MB\t"
    )
    late = Report(request_id="i", duration_ms=3000, memory_mib=128, max_memory_mib=30, ending=Ending("timeout"))
    assert lines.report(late).endswith("\tMax Memory Used: 30 MB\tStatus: timeout")


def test_init_is_billed() -> None:
    first = Report(request_id="i", duration_ms=250.06, memory_mib=128, max_memory_mib=30, init_ms=500.42)
    assert first.billed_ms == 751
    assert "\tInit Duration: 500.42 ms\t" in lines.report(first)


def test_timeout_and_exit_lines() -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 123999, tzinfo=UTC)
    assert lines.timed_out(moment, "id", 3.0) == "2026-01-31T12:00:00.123Z id Task timed out after 3.00 seconds"
    assert lines.exited("id", "Runtime exited with error: exit status 1", "Runtime.ExitError") == [
        "RequestId: id Error: Runtime exited with error: exit status 1",
        "Runtime.ExitError",
    ]


def test_stream_names() -> None:
    name = stream_name("$LATEST", datetime(2026, 2, 3, tzinfo=UTC))
    assert re.fullmatch(r"2026/02/03/\[\$LATEST\][0-9a-f]{32}", name)
    assert stream_name("1") != stream_name("1")


def test_a_stream_keeps_lines_with_their_time(tmp_path: Path) -> None:
    stream, heard = LogStream(tmp_path, "/aws/lambda/f", "1"), []
    stream.subscribe(lambda moment, line: heard.append(line))
    stream.append([b"one", b"two"])
    stream.platform("three")
    stream.close()
    assert stream.path is not None
    assert stream.path.is_relative_to(tmp_path / "aws/lambda/f")
    text = stream.path.read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in text] == ["one", "two", "three"]
    assert all(line.split(" ", 1)[0].isdigit() for line in text)
    assert heard == [b"one", b"two", b"three"]


def test_the_tail_is_the_last_4096_bytes_of_the_invocation() -> None:
    stream = LogStream(None, "g", "1")
    stream.append([b"before"])
    stream.begin_invocation()
    stream.append([b"%04d" % number for number in range(5000)])
    assert len(stream.tail()) == 4096
    assert stream.tail().endswith(b"4998\n4999\n")
    stream.begin_invocation()
    assert stream.tail() == b""


def test_a_group_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    stream = LogStream(tmp_path / "logs", "/../../escape", "1")
    stream.append([b"line"])
    stream.close()
    assert stream.path is not None
    assert stream.path.resolve().is_relative_to(tmp_path / "logs")


# -- the format JSON --

SUBJECT = Subject(
    function_name="f", version="3", label="python:3.13.v12", version_arn=ARN, initialization_type="on-demand",
    memory_mib=128,
)  # fmt: skip
NAMED = {
    "runtimeVersion": "python:3.13.v12", "runtimeVersionArn": ARN, "functionName": "f", "functionVersion": "3",
    "instanceMaxMemory": 134217728,
}  # fmt: skip
OF_CLONE = Report(
    request_id="i", duration_ms=2.3456, memory_mib=128, max_memory_mib=30, restore_ms=3.5, billed_restore_ms=2
)


def events(found: list[bytes]) -> list[tuple[str, Any]]:
    """Type and record of each; the time has Lambda's form, and the members their order."""
    decoded = [json.loads(line) for line in found]
    assert all(list(one) == ["time", "type", "record"] for one in decoded)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"]) for one in decoded)
    return [(one["type"], one["record"]) for one in decoded]


def test_json_of_init() -> None:
    log = platform_log(SUBJECT, "JSON", "DEBUG")
    on_demand = {"initializationType": "on-demand", "phase": "init"}
    assert events(log.init_start()) == [("platform.initStart", {**on_demand, **NAMED})]
    assert events(log.init_report(12.3456)) == [
        ("platform.initRuntimeDone", {**on_demand, "status": "success"}),
        ("platform.initReport", {**on_demand, "status": "success", "metrics": {"durationMs": 12.346}}),
    ]
    failed = events(log.init_report(1, Ending("error", "Runtime.ExitError"), again=True))[1]
    assert failed == (
        "platform.initReport",
        {
            "initializationType": "on-demand", "phase": "invoke", "status": "error",
            "errorType": "Runtime.ExitError", "metrics": {"durationMs": 1},
        },
    )  # fmt: skip


def test_json_of_a_restore_and_its_call() -> None:
    log = platform_log(replace(SUBJECT, initialization_type="snap-start"), "JSON", "DEBUG")
    assert events(log.init_start())[0][1] == {"initializationType": "snap-start", "phase": "snap-start", **NAMED}
    assert events(log.restore_start()) == [("platform.restoreStart", NAMED)]
    assert events(log.restore_report(3.5)) == [
        ("platform.restoreRuntimeDone", {"status": "success"}),
        ("platform.restoreReport", {"status": "success", "metrics": {"durationMs": 3.5}}),
    ]
    assert events(log.restore_report(3.5, Ending("timeout")))[1][1] == {
        "status": "timeout", "metrics": {"durationMs": 3.5}
    }  # fmt: skip
    assert events(log.start("i")) == [("platform.start", {"requestId": "i", "version": "3"})]
    assert events(log.finished(OF_CLONE, 17)) == [
        (
            "platform.runtimeDone",
            {"requestId": "i", "status": "success", "metrics": {"durationMs": 2.346, "producedBytes": 17}},
        ),
        (
            "platform.report",
            {
                "requestId": "i", "status": "success",
                "metrics": {
                    "durationMs": 2.346, "billedDurationMs": 5, "memorySizeMB": 128, "maxMemoryUsedMB": 30,
                    "restoreDurationMs": 3.5, "billedRestoreDurationMs": 2,
                },
            },
        ),
    ]  # fmt: skip


def every_event(level: str, ending: Ending | None = None) -> list[str]:
    log = platform_log(SUBJECT, "JSON", level)
    lines_of = [log.init_start(), log.init_report(1, ending), log.restore_start(), log.restore_report(1, ending)]
    lines_of += [log.start("i"), log.timed_out("i", 1), log.exited("i", "r", "t")]
    lines_of += [log.finished(replace(OF_CLONE, ending=ending), 1)]
    return [kind.removeprefix("platform.") for found in lines_of for kind, _ in events(found)]


def test_levels_of_the_platforms_events() -> None:
    debug = ["initRuntimeDone", "initReport", "restoreRuntimeDone", "runtimeDone"]
    everything = [
        "initStart", "initRuntimeDone", "initReport", "restoreStart", "restoreRuntimeDone", "restoreReport", "start",
        "runtimeDone", "report",
    ]  # fmt: skip
    assert every_event("DEBUG") == everything
    assert every_event("INFO") == [one for one in everything if one not in debug]
    assert every_event("WARN") == []
    failed = [one for one in everything if one not in ("initStart", "restoreStart", "start")]
    assert every_event("WARN", Ending("error", "Runtime.ExitError")) == failed


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"plain text", True),
        (b'{"level": "DEBUG", "message": "m"}', False),
        (b'{"level": "info"}', False),
        (b'{"level": "WARNING"}', True),
        (b'{"level": "CRITICAL"}', True),
        (b'{"level": "unheard-of"}', True),
        (b'{"level": 30}', True),
        (b'{"message": "no level"}', True),
        (b"{broken", True),
    ],
)
def test_lines_of_a_function_below_its_level_are_left_out(line: bytes, kept: bool) -> None:
    assert ApplicationFilter("WARN")(line) is kept


def test_thaws_own_sentences_are_objects_in_a_json_log() -> None:
    stream = LogStream(None, "g", "1", "JSON")
    heard: list[dict[str, str]] = []
    stream.subscribe(lambda moment, line: heard.append(json.loads(line)))
    stream.platform("The snapshot cannot be used.")
    assert [(one["level"], one["message"]) for one in heard] == [("WARN", "The snapshot cannot be used.")]


def test_group_names_longer_than_a_files_name(tmp_path: Path) -> None:
    names = ["/" + "a" * 511, "/" + "a" * 510 + "b", "/short/" + "a" * 255]
    for name in names:
        stream = LogStream(tmp_path, name, "1")
        stream.append([name.encode()])
        stream.close()
    reader = LogReader(tmp_path)
    assert [group.name for group in reader.groups()] == sorted(names)
    for name in names:
        group = reader.group(name)
        assert group is not None
        assert [event.message for event in reader.events(reader.streams(group))] == [name]
    assert reader.group("/" + "a" * 400) is None
