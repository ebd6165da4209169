"""The SAM CLI against a running server: `sam remote invoke` and `sam logs`, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving import Served, served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

GROUP = "/aws/lambda/talks"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:talks"
SOURCE = "def handler(event, context):\n    print('said', event)\n    return event\n"
Sam = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if _program() is None:
        pytest.skip("the SAM CLI is not on this machine: name it in THAW_TEST_SAM")
    with served(tmp_path_factory.mktemp("state")) as running:
        running.create("talks", SOURCE)
        yield running


def _program() -> str | None:
    return os.environ.get("THAW_TEST_SAM") or shutil.which("sam")


@pytest.fixture
def sam(server: Served, tmp_path: Path) -> Sam:
    """Runs the SAM CLI and returns what it prints."""
    program = _program()
    assert program is not None
    environment = {
        **os.environ, "AWS_ENDPOINT_URL": server.process.url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1", "SAM_CLI_TELEMETRY": "0", "HOME": str(tmp_path),
    }  # fmt: skip

    def run(*words: str) -> str:
        done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_remote_invoke_and_logs(sam: Sam) -> None:
    assert json.loads(sam("remote", "invoke", ARN, "--event", '{"n": 1}').splitlines()[0]) == {"n": 1}
    printed = sam("logs", "--cw-log-group", GROUP)
    assert "said {'n': 1}" in printed
    assert "REPORT RequestId: " in printed
    found = sam("logs", "--cw-log-group", GROUP, "--filter", "said", "--output", "json")
    assert [json.loads(line)["message"] for line in found.splitlines() if line] == ["said {'n': 1}"]
