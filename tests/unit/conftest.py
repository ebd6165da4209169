"""Fixtures for tests that run the real runtime interface client."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from thaw.runtimes import Runtimes
from thaw.runtimes.interpreters import discover
from unit.small_runtime_api import Installed, RuntimeApi, Start, serve


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    state = RuntimeApi()
    server = serve(state)
    yield state
    state.release.set()
    state.events.put(None)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The newest interpreter that this machine has for functions, with its client."""
    return asyncio.run(install(tmp_path_factory.mktemp("state")))


async def install(state: Path) -> Installed:
    interpreter = (await discover())[0]
    lines: list[str] = []
    runtime = await Runtimes(state, progress=lines.append).find(interpreter.name)
    assert len(lines) == 2
    assert "awslambdaric-4" in lines[1]
    return Installed(interpreter.executable, runtime.mounts[-1].source, runtime.name)


@pytest.fixture
def start(installed: Installed, api: RuntimeApi, tmp_path: Path) -> Iterator["Start"]:
    starter = Start(installed, api, tmp_path / "task")
    yield starter
    for process in starter.processes:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
