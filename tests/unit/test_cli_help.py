"""`thaw ... --help` of every command: whole, with every option's text and default in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from thaw.cli.application import application
from thaw.config import OPTIONS, Settings, default_state_dir


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(what is typed after `thaw`, the command) of all commands, and of the groups that they are in."""
    yield words, command
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(application)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_every_option_as_it_is_written(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(application, [*words, "--help"], terminal_width=240, env={"COLUMNS": "240"})
    assert shown.exit_code == 0, shown.exception
    text = " ".join(shown.output.replace("│", " ").split())
    for parameter in COMMANDS[words].params:
        said = getattr(parameter, "help", None) or ""
        assert " ".join(said.split()) in text
        if isinstance(default := getattr(parameter, "show_default", None), str):
            assert f"[default: ({default})]" in text


def test_the_defaults_of_the_server_that_help_shows_are_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THAW_STATE_DIR", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert {parameter.name for parameter in COMMANDS["serve",].params} - {"help"} == OPTIONS
    for parameter in COMMANDS["serve",].params:
        if parameter.name != "help":
            default = (
                default_state_dir() if parameter.name == "state_dir" else Settings.model_fields[parameter.name].default
            )
            assert parameter.show_default == str(default), parameter.name
