"""What `thaw` says where it was called wrongly: one sentence, no trace, status 1."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thaw.cli.application import application, run

Thaw = Callable[..., str]


@pytest.fixture
def thaw(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Thaw:
    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["thaw", *arguments])
        with pytest.raises(SystemExit) as ended:
            run()
        assert ended.value.code == 1
        return capsys.readouterr().err

    return call


def test_an_address_that_is_none(thaw: Thaw) -> None:
    said = "thaw: nonsense is no address of a server: write it as http://127.0.0.1:3001.\n"
    assert thaw("publish", "f", "--endpoint-url", "nonsense") == said
    assert thaw("deploy", "--remove", "--stack-name", "s", "--endpoint-url", "nonsense") == said


def test_a_function_without_a_name(thaw: Thaw) -> None:
    assert thaw("publish", "") == "thaw: '' is no name of a function: `aws lambda list-functions` lists them.\n"


def test_a_state_folder_that_is_not_there_is_not_made(thaw: Thaw, tmp_path: Path) -> None:
    folder = tmp_path / "none"
    assert thaw("snapshot", "ls", "--state-dir", str(folder)) == (
        f"thaw: There is no state of a server in {folder}: name its folder with --state-dir, or set THAW_STATE_DIR.\n"
    )
    assert not folder.exists()


def test_settings_that_other_commands_share_with_the_server(thaw: Thaw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_PORT", "many")
    assert thaw("runtime", "ls") == (
        "thaw: The setting port is 'many', but input should be a valid integer, unable to parse string as an integer: "
        "set THAW_PORT or --port to a value it takes.\n"
    )


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_measured(thaw: Thaw, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert thaw("bench", "--output", str(tmp_path / "file")) == (
        f"thaw: {tmp_path / 'file'} could not be used: File exists.\n"
    )


def test_clones_of_a_python_that_is_not_there(thaw: Thaw) -> None:
    assert thaw("doctor", "uniqueness", "--runtime", "python2.7").startswith(
        "thaw: Clones of python2.7 cannot be compared, because no such Python is on this machine: name one of python3."
    )


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (("bench",), "thaw.cli.example.build_example"),
        (("demo",), "thaw.cli.example.build_example"),
        (("doctor", "uniqueness"), "thaw.cli.uniqueness.comparing.packages_folder"),
    ],
    ids=["bench", "demo", "uniqueness"],
)
def test_a_command_that_is_stopped_leaves_no_folder(
    command: tuple[str, ...], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM comes when the command has its temporary folder and begins to work."""
    folders: list[Path] = []

    def stopped(*_: object) -> None:
        folders.extend(tmp_path.glob("thaw-*"))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(part, stopped)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("THAW_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(application, command)
    assert ended.exit_code == 130, ended.exception
    assert len(folders) == 1
    assert not folders[0].exists()
