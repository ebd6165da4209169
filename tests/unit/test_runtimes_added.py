"""`thaw runtime ls` and `thaw runtime add`: folders of people's own come first."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thaw.cli.application import application
from thaw.cli.uniqueness.comparing import python_for
from thaw.errors import ConfigurationError
from thaw.runtimes import Runtimes
from thaw.runtimes.added import add_folder, added_folders, share_folders
from unit.test_runtimes_java import home

HERE = "python{}.{}".format(*sys.version_info[:2])


async def test_an_added_java_is_served_and_comes_first_of_its_version(tmp_path: Path) -> None:
    state = tmp_path / "state"
    runtimes = Runtimes(state, folders=[], java_homes=[home(tmp_path / "usual", "21.0.2")])
    assert [each.folder for each in await runtimes.installed() if each.name == "java21"] == [tmp_path / "usual"]
    (found,) = await add_folder(state, home(tmp_path / "own", "21.0.2"))
    assert (found.name, found.version, found.folder) == ("java21", "21.0.2", tmp_path / "own")
    await add_folder(state, tmp_path / "own")
    assert added_folders(state) == [tmp_path / "own"]
    served = [each.folder for each in await runtimes.installed() if each.name == "java21"]
    assert served == [tmp_path / "own", tmp_path / "usual"]


async def test_an_added_python_is_served(tmp_path: Path) -> None:
    (tmp_path / "python" / "bin").mkdir(parents=True)
    (tmp_path / "python" / "bin" / HERE).symlink_to(sys.executable)
    await add_folder(tmp_path / "state", tmp_path / "python")
    assert HERE in await Runtimes(tmp_path / "state", folders=[], java_homes=[]).names()


async def test_a_folder_without_a_runtime_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await add_folder(tmp_path / "state", tmp_path)
    assert str(caught.value) == (
        f"The folder {tmp_path} holds no runtime for functions, because it has neither bin/python3.N (3.9 or later) "
        "nor a Java 11, 17, 21 or 25 with its file `release`: name the folder that an installation was unpacked to."
    )
    assert not (tmp_path / "state").exists()


async def test_a_java_that_does_not_start_is_refused_in_one_sentence(tmp_path: Path) -> None:
    java = home(tmp_path / "java", "21.0.12.1")
    (java / "bin" / "java").write_text("#!/bin/sh\necho 'java: no GLIBC_2.38' >&2\nexit 1\n")
    with pytest.raises(ConfigurationError) as caught:
        await add_folder(tmp_path / "state", java)
    assert str(caught.value) == (
        f"The folder {java} holds Java 21.0.12.1, which does not start on this machine (java: no GLIBC_2.38): name one "
        "that was built for its processor and C library, unpacked whole."
    )
    assert not (tmp_path / "state").exists()


async def test_commands_with_a_server_of_their_own_share_what_was_added(tmp_path: Path) -> None:
    share_folders(tmp_path / "state", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    await add_folder(tmp_path / "state", home(tmp_path / "java", "21.0.2"))
    share_folders(tmp_path / "state", tmp_path / "other")
    assert added_folders(tmp_path / "other") == [tmp_path / "java"]


def test_a_python_that_was_added_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.runtimes.interpreters.default_folders", list)
    (tmp_path / "python" / "bin").mkdir(parents=True)
    (tmp_path / "python" / "bin" / HERE).symlink_to(sys.executable)
    asyncio.run(add_folder(tmp_path / "state", tmp_path / "python"))
    assert python_for(tmp_path / "state" / "runtimes", None) == HERE
    with pytest.raises(ConfigurationError) as caught:
        python_for(tmp_path / "other" / "runtimes", None)
    assert str(caught.value) == "This machine has no Python 3.9 or later for functions: install one and try again."


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner().invoke
    java = home(tmp_path / "jdk", "11.0.13")
    added = run(application, ["runtime", "add", str(java), "--state-dir", str(tmp_path / "state")])
    assert added.output.split() == f"Functions can have java11 now (11.0.13 in {java}).".split()
    listed = run(application, ["runtime", "ls", "--state-dir", str(tmp_path / "state")], env={"COLUMNS": "200"})
    assert ["java11", "11.0.13", str(java)] in [line.split() for line in listed.output.splitlines()]
