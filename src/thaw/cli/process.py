"""A Thaw server as a process of its own, for commands that need one for a while."""

from __future__ import annotations

import ctypes
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.errors import ConfigurationError

READY = re.compile(r"Thaw listens at (\S+) ")
START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that answers at `url`; `log` is the file with what it printed."""

    url: str
    pid: int
    log: Path


@contextmanager
def serving(state_dir: Path, **settings: object) -> Iterator[ServerProcess]:
    """Runs `thaw serve` on a free loopback port; `settings` are those of `thaw.config.Settings`.

    At the end the server is asked to stop (SIGTERM) and waited for. Raises ConfigurationError where it does not start.
    """
    variables = {f"THAW_{name.upper()}": str(value) for name, value in settings.items()}
    log = state_dir / "server.log"
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "thaw.cli", "serve", "--state-dir", str(state_dir), "--port", "0"],
            env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
    try:
        yield ServerProcess(_ready_url(process, log), process.pid, log)
    finally:
        _stop(process)


def _end_with_parent() -> None:
    """Runs in the new process: a command that is killed at once takes its server with it (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _ready_url(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + START_LIMIT_S
    while select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
        line = process.stdout.readline().decode(errors="replace")
        if (match := READY.match(line)) is not None:
            return match[1]
        if not line:
            break
    said = log.read_text(errors="replace").strip().splitlines()
    reason = said[-1].removeprefix("thaw: ") if said else f"it said nothing within {START_LIMIT_S:.0f} s"
    raise ConfigurationError(f"The server did not start: {reason}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def lambda_client(url: str) -> Any:
    """A real boto3 client of the Lambda API at `url`, with stand-in credentials and without retries."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise ConfigurationError("This command calls the server through boto3: run `pip install boto3`.") from error
    return boto3.client(
        "lambda", endpoint_url=url, region_name="us-east-1", aws_access_key_id="thaw", aws_secret_access_key="thaw",
        config=Config(retries={"max_attempts": 0}, read_timeout=900, max_pool_connections=64),
    )  # fmt: skip
