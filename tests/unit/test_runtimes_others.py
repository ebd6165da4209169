"""Runtimes beside Python: what they are called, how they start, and sentences for what this machine lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from thaw.errors import RuntimeNotFound
from thaw.runtimes import Runtime, Runtimes, node
from thaw.runtimes.node import Node, client_folder, describe
from thaw.runtimes.provided import entry_point
from thaw.runtimes.runtime import Circumstances


def runtime(name: str, version: str) -> Runtime:
    return Runtime(name=name, version=version, mounts=(), argv=("x",), variables={}, digest="", version_arn="")


@pytest.mark.parametrize(
    ("name", "version", "label"),
    [
        ("python3.13", "3.13.2", "python:3.13.v2"),
        ("nodejs20.x", "20.18.1", "nodejs:20.v18"),
        ("java21", "21.0.4", "java:21.v4"),
        ("provided.al2023", "al2023.0", "provided:al2023.v0"),
    ],
)
def test_names_in_the_log_are_lambdas(name: str, version: str, label: str) -> None:
    assert runtime(name, version).label == label


def circumstances(task: Path, layers: Path | None = None, memory_mib: int = 1000) -> Circumstances:
    return Circumstances(task=task, layers=layers, memory_mib=memory_mib)


def program(folder: Path, *, mode: int = 0o755) -> Path:
    folder.mkdir()
    (folder / "bootstrap").write_text("#!/bin/sh\n")
    (folder / "bootstrap").chmod(mode)
    return folder


def test_the_codes_bootstrap_comes_before_that_of_a_layer(tmp_path: Path) -> None:
    task, layers, empty = program(tmp_path / "task"), program(tmp_path / "layers"), tmp_path / "empty"
    empty.mkdir()
    assert entry_point(circumstances(task, layers)) == ("/var/task/bootstrap",)
    assert entry_point(circumstances(empty, layers)) == ("/opt/bootstrap",)
    assert entry_point(circumstances(empty, empty)) == ("/var/task/bootstrap",)
    assert entry_point(circumstances(empty)) == ("/var/task/bootstrap",)


async def test_both_names_are_served_everywhere(tmp_path: Path) -> None:
    runtimes = Runtimes(tmp_path, folders=[tmp_path])
    for name in ("provided.al2023", "provided.al2"):
        found = await runtimes.find(name)
        assert (found.name, found.mounts, found.variables) == (name, (), {})
        assert name in await runtimes.names()


def client(folder: Path) -> Path:
    folder.mkdir()
    (folder / "client.txt").write_text("aws-lambda-ric@4.0.2\n")
    return folder


def test_node_outside_usr_is_mounted_and_told_its_memory(tmp_path: Path) -> None:
    executable = tmp_path / "node" / "bin" / "node"
    executable.parent.mkdir(parents=True)
    executable.touch()
    described = describe(Node("22.1.0", executable), client(tmp_path / "client"), "eu-west-1")
    assert [(mount.source, mount.target) for mount in described.mounts] == [
        (tmp_path / "node", "/var/lang"),
        (tmp_path / "client", "/var/runtime"),
    ]
    assert described.adapted(circumstances(tmp_path, memory_mib=1000)).argv == (
        "/var/lang/bin/node", "--expose-gc", "--max-old-space-size=900", "--max-semi-space-size=50",
        "--require", "/var/runtime/node_bootstrap.cjs", "/var/runtime/node_modules/aws-lambda-ric/index.mjs",
    )  # fmt: skip
    assert described.variables["NODE_PATH"].startswith("/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:")


async def test_a_node_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none() -> list[Node]:
        return []

    monkeypatch.setattr(node, "discover", none)
    with pytest.raises(RuntimeNotFound) as caught:
        await Runtimes(tmp_path).find("nodejs98.x")
    assert str(caught.value) == (
        "The runtime nodejs98.x cannot be served, because this machine has no such node on PATH, in nvm, nodenv, fnm "
        "or the usual prefixes (it has: none): install one, or use a runtime that is here."
    )


async def test_tools_that_the_client_is_built_with_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeNotFound) as caught:
        await client_folder(Node("20.1.0", tmp_path / "bin" / "node"), tmp_path / "runtimes", lambda line: None)
    assert str(caught.value) == (
        "The runtime interface client for nodejs20.x cannot be built, because this machine lacks npm, cmake, make, "
        "g++: install what is missing and try again."
    )
    assert not (tmp_path / "runtimes").exists()
