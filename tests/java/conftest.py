"""One server for all Java tests; each call goes to a fresh environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fetched
from java import jdk
from serving import Served, Traces, served


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Skipped where there is no JDK, no javac or no Maven repository."""
    jdk.program("Hooks")
    state_dir = tmp_path_factory.mktemp("java-state")
    fetched.add_to(state_dir)
    with served(state_dir, idle_timeout_s=0, cpu_limit=False) as running:
        running.runtime = jdk.oldest()
        yield running
        traces = Traces.of(running.process.pid)
    traces.assert_gone()
