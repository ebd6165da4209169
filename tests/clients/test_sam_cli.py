"""The real SAM CLI: it builds what `thaw deploy` takes, and calls and reads what is deployed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving import served

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello_api"
SAM = shutil.which("sam")

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
    pytest.mark.skipif(SAM is None, reason="the SAM CLI (sam) is not installed: its commands are not tested here"),
]


def test_the_sam_cli_builds_calls_and_reads(tmp_path: Path) -> None:
    project = tmp_path / "hello"
    shutil.copytree(EXAMPLE, project)
    with served(tmp_path / "state") as server:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "SAM_CLI_TELEMETRY": "0",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": server.process.url,
            "AWS_ACCESS_KEY_ID": "thaw", "AWS_SECRET_ACCESS_KEY": "thaw",
        }  # fmt: skip

        def run(*words: str) -> str:
            done = subprocess.run(
                words, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        override = f"Runtime={server.runtime}"
        run(str(SAM), "build", "--parameter-overrides", override)
        built = ".aws-sam/build/template.yaml"
        run(
            sys.executable,
            "-m",
            "thaw.cli",
            "deploy",
            built,
            "--stack-name",
            "hello",
            "--parameter-overrides",
            override,
        )
        arn = server.client.get_alias(FunctionName="hello-Hello", Name="live")["AliasArn"]
        answer = json.loads(run(str(SAM), "remote", "invoke", arn, "--event", '{"pathParameters": {"name": "sam"}}'))
        assert json.loads(answer["body"]) == {"hello": "sam", "began": "snap-start", "calls": 1, "version": "1"}
        log = run(str(SAM), "logs", "--cw-log-group", "/aws/lambda/hello-Hello")
        assert "RESTORE_REPORT Restore Duration: " in log
