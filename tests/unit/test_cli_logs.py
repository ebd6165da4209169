"""`thaw logs`: reads the files that LogStream writes."""

from __future__ import annotations

import time
from pathlib import Path

from typer.testing import CliRunner

from thaw.cli.application import application
from thaw.cli.logs import LogReader
from thaw.observe.log_stream import LogStream


def test_the_streams_of_a_function_are_merged_by_time(tmp_path: Path) -> None:
    streams = [LogStream(tmp_path / "logs", "/aws/lambda/f", version) for version in ("1", "$LATEST")]
    for text in ("first", "second"):
        for stream in streams:
            stream.append([f"{text} of {stream.name[12:20]}".encode()])
        time.sleep(0.005)  # events of one millisecond have no order between streams
    printed = CliRunner().invoke(application, ["logs", "f", "--state-dir", str(tmp_path)])
    assert printed.exit_code == 0
    texts = [line.split(" ")[1] for line in printed.output.splitlines()]
    assert texts == ["first", "first", "second", "second"]


def test_following_gives_each_event_once_and_waits_for_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "2026/11/21/[1]abc.log"
    file.parent.mkdir(parents=True)
    reader = LogReader(tmp_path)
    file.write_bytes(b"1000 one\n2000 tw")
    assert [text for _, _, text in reader.new_events()] == ["one"]
    file.write_bytes(b"1000 one\n2000 two\n")
    assert reader.new_events() == [(2000, "2026/11/21/[1]abc", "two")]
    assert reader.new_events() == []


def test_a_function_without_log_is_told_in_a_sentence(tmp_path: Path) -> None:
    printed = CliRunner().invoke(application, ["logs", "nobody", "--state-dir", str(tmp_path)])
    assert printed.exit_code == 1
    assert "There is no log at" in printed.output
