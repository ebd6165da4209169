"""A real uvicorn server with the AWS front on a free port, and the real clients pointed at it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config

from clients.front import REGION, Front, package


class LiveFront:
    """The front behind uvicorn, in a thread with its own event loop."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._folder = folder
        self._settings = settings
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(20):
            raise RuntimeError("The server did not start within 20 s.")

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(20)

    def run(self, coroutine: Any) -> Any:
        """Runs a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.front = await Front.open(self._folder, **self._settings)
        # Listening before serving: a client that is early waits in the queue instead of being refused.
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        # asyncio does this for sockets that name their protocol only; without it each answer waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        # As in the server: boto3's waiters ask every 5 s, which is uvicorn's own limit for idle connections.
        config = uvicorn.Config(self.front.application, log_level="warning", http="httptools", timeout_keep_alive=75)
        self.server = uvicorn.Server(config)
        self._ready.set()
        await self.server.serve(sockets=[listener])
        await self.front.settled()
        await self.front.catalog.close()


SEARCH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def aws_program() -> str:
    """The AWS CLI that the development dependencies bring."""
    program = shutil.which("aws", path=SEARCH)
    if program is None:
        raise RuntimeError("The AWS CLI is missing: install the development dependencies (awscli).")
    return program


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveFront]:
    server = LiveFront(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(live: LiveFront) -> Any:
    """A boto3 client of the server, without retries, so that each answer is seen."""
    return boto3.client(
        "lambda",
        endpoint_url=live.url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def zip_file(tmp_path: Path) -> Path:
    place = tmp_path / "function.zip"
    place.write_bytes(package())
    return place


@pytest.fixture
def aws(live: LiveFront, tmp_path: Path) -> Callable[..., Any]:
    """Runs the AWS CLI as a user types it, apart from --endpoint-url; returns its JSON (None where it prints none)."""
    program = aws_program()
    environment = {
        "PATH": SEARCH,
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_PAGER": "",
    }

    def run(line: str, *more: str, fails: bool = False) -> Any:
        words = line.split()
        assert words[0] == "aws"
        command = [program, "--endpoint-url", live.url, *words[1:], *more]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
        if fails:
            assert done.returncode != 0, done.stdout
            return done.stderr
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run
