"""`thaw runtime ls` and `thaw runtime add`: folders of people's own come first."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thaw.cli.application import application
from thaw.errors import ConfigurationError
from thaw.runtimes import Runtimes
from thaw.runtimes.added import add_folder, added_folders
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


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner().invoke
    java = home(tmp_path / "jdk", "11.0.13")
    added = run(application, ["runtime", "add", str(java), "--state-dir", str(tmp_path / "state")])
    assert added.output.split() == f"Functions can have java11 now (11.0.13 in {java}).".split()
    listed = run(application, ["runtime", "ls", "--state-dir", str(tmp_path / "state")], env={"COLUMNS": "200"})
    assert ["java11", "11.0.13", str(java)] in [line.split() for line in listed.output.splitlines()]
