"""Lambda's log lines, letter by letter, and the log stream."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from thaw.observe import platform_lines as lines
from thaw.observe.log_stream import LogStream, stream_name
from thaw.observe.platform_lines import Ending, Report

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
