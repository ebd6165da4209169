"""The handlers of two published articles, verbatim (examples/seeds): code that was written for AWS runs here."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import ROLE, Served, Traces, functions_of, served, templates_of
from thaw.cli.measuring import wait_active
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

CHECKOUT = Path(__file__).parents[2]
SNAP_START = {"ApplyOn": "PublishedVersions"}
SIOCGIFADDR = 0x8915


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # Every call in a fresh environment, unless a test looks into one that is kept.
    with served(tmp_path_factory.mktemp("state"), idle_timeout_s=0) as running:
        yield running
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


def seed(name: str, runtime: str) -> bytes:
    """The deployment package of a seed, built once per checkout by the examples' own script."""
    file = CHECKOUT / "build" / "seeds" / f"{name}-{runtime}.zip"
    if not file.exists():
        script = [sys.executable, str(CHECKOUT / "examples" / "build.py"), f"seeds/{name}"]
        subprocess.run([*script, "--runtime", runtime, "--output", str(file)], check=True, capture_output=True)
    return file.read_bytes()


def publish_seed(server: Served, name: str, handler: str, **variables: str) -> tuple[str, str]:
    """Creates and publishes a seed with SnapStart; returns the function's name and the version."""
    function = name.replace("_", "-")
    server.client.create_function(
        FunctionName=function, Runtime=server.runtime, Role=ROLE, Handler=handler, Timeout=30, MemorySize=1024,
        Code={"ZipFile": seed(name, server.runtime)}, SnapStart=SNAP_START, Environment={"Variables": variables},
    )  # fmt: skip
    wait_active(server.client, function)
    return function, server.publish(function)


def gateway(server: Served) -> str:
    """This machine's address as functions see it: that of the server's link."""
    (link,) = Traces.of(server.process.pid).links
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", link.encode()))
    return socket.inet_ntoa(answer[20:24])


# --- reseeding, unique numbers, the system's generator ----------------------------------------------------------------


def test_reseeding_gives_every_clone_numbers_of_its_own(server: Served) -> None:
    function, version = publish_seed(server, "reseeding", "handler.handler")
    values = [server.call(function, {}, version).payload["random_value"] for _ in range(12)]
    assert all(0 <= value <= 1_000_000 for value in values)
    assert len(set(values)) > 10  # 12 draws from a million: one pair may be equal by chance, two hardly


def test_a_unique_number_is_made_in_the_handler(server: Served) -> None:
    function, version = publish_seed(server, "unique_number", "lambda_function.lambda_handler")
    reply = server.call(function, {}, version)
    assert reply.payload == "Hello, World!"
    assert "Unique number: " in reply.log


def test_the_systems_generator_differs_in_every_clone(server: Served) -> None:
    function, version = publish_seed(server, "system_random", "lambda_function.lambda_handler")
    drawn = set()
    for _ in range(6):
        reply = server.call(function, {}, version)
        assert reply.payload == "Hello, World!"
        numbers = [line for line in reply.log.splitlines() if line.startswith("0.")]
        assert len(numbers) == 10
        drawn |= set(numbers)
    assert len(drawn) == 60


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_run_once_before_the_snapshot_and_after_every_restore(server: Served) -> None:
    function, version = publish_seed(server, "hooks", "lambda_function.lambda_handler")
    for _ in range(3):
        reply = server.call(function, {}, version)
        assert reply.error is None
        assert "Handler execution" in reply.log
    log = server.log(function)
    assert log.count("Running before snapshot") == 1
    assert log.count("Running after restore") == 3
    assert "Running before snapshot" not in server.call(function, {}, "$LATEST").log


# --- /tmp that persists in the snapshot -------------------------------------------------------------------------------

OBJECT = b"an object of " + bytes(range(256)) * 4096


class Bucket(http.server.BaseHTTPRequestHandler):
    """Answers HeadObject and GetObject of one object, as S3 does."""

    protocol_version = "HTTP/1.1"
    requests: list[str]

    def do_HEAD(self) -> None:
        self._answer(send_body=False)

    def do_GET(self) -> None:
        self._answer(send_body=True)

    def _answer(self, *, send_body: bool) -> None:
        self.requests.append(f"{self.command} {self.path}")
        found = self.path.partition("?")[0] == "/amzn-s3-demo-bucket/OBJECT_NAME"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(OBJECT) if found else 0))
        self.send_header("ETag", '"1"')
        self.end_headers()
        if send_body and found:
            self.wfile.write(OBJECT)

    def log_message(self, *_: object) -> None:
        """The test looks at `requests` instead."""


@contextlib.contextmanager
def bucket(address: str) -> Iterator[tuple[str, list[str]]]:
    requests: list[str] = []
    handler = type("OneBucket", (Bucket,), {"requests": requests})
    with http.server.ThreadingHTTPServer((address, 0), handler) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever)
        thread.start()
        try:
            yield f"http://{address}:{endpoint.server_address[1]}", requests
        finally:  # or the thread outlives a test that fails, and pytest never ends
            endpoint.shutdown()
            thread.join()


def test_a_file_that_a_hook_downloaded_to_tmp_is_in_every_clone(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running, bucket(gateway(running)) as (url, requests):
        function, version = publish_seed(
            running, "preloading", "lambda_function.lambda_handler",
            AWS_ENDPOINT_URL_S3=url, AWS_S3_ADDRESSING_STYLE="path",
        )  # fmt: skip
        downloads = list(requests)
        assert any(request.startswith("GET ") for request in downloads)
        assert running.call(function, {}, version).error is None
        (clone,) = set(functions_of(running.process.pid)) - templates_of(running.process.pid)
        assert Path(f"/proc/{clone}/root/tmp/FILE_NAME").read_bytes() == OBJECT
        assert requests == downloads, "a clone does not download again"
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


# --- a database connection, closed before the snapshot and opened after restore ---------------------------------------


class Postgres:
    """A real PostgreSQL in a temporary folder, as an unprivileged user, at one address."""

    user = "thaw_test"
    password = "correct horse"

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        with socket.create_server((address, 0)) as probe:
            self.port = probe.getsockname()[1]

    def start(self) -> None:
        """Makes the cluster and starts it; raises CalledProcessError."""
        (self.folder / "password").write_text(self.password)
        data = str(self.folder / "data")
        self._run(program("initdb"), "-D", data, "-U", self.user, "--pwfile", str(self.folder / "password"),
                  "-A", "scram-sha-256", "--no-sync", "--locale=C", "-E", "UTF8")  # fmt: skip
        with open(self.folder / "data" / "pg_hba.conf", "a") as rules:
            rules.write("host all all 198.18.0.0/15 scram-sha-256\n")
        options = f"-h {self.address} -p {self.port} -k {self.folder} -c fsync=off"
        self._run(program("pg_ctl"), "-D", data, "-o", options, "-w", "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        self._run(program("pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "stop")

    def connections(self) -> int:
        """How many clients are connected (without this one)."""
        text = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        environment = os.environ | {"PGPASSWORD": self.password}
        done = subprocess.run(
            [shutil.which("psql") or program("psql"), "-h", str(self.folder), "-p", str(self.port), "-U", self.user,
             "-d", "postgres", "-Atc", text], env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def _run(self, *command: str) -> None:
        nobody = pwd.getpwnam("nobody")
        subprocess.run(
            command, check=True, cwd=self.folder, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip


def program(name: str) -> str:
    """A program of PostgreSQL: on PATH, or where Debian keeps them; skips the test where there is none."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is not on this machine: install the package postgresql")
    return str(Path(found).resolve())


@contextlib.contextmanager
def postgres(address: str) -> Iterator[Postgres]:
    program("initdb")
    folder = Path(tempfile.mkdtemp(prefix="thaw-test-postgres-", dir="/tmp"))
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    database = Postgres(folder, address)
    try:
        database.start()
        yield database
        database.stop()
    finally:
        shutil.rmtree(folder)


def build_database_seed(runtime: str) -> None:
    """Skips the test, by name, where psycopg2 has no build for the function's Python."""
    try:
        seed("database_hooks", runtime)
    except subprocess.CalledProcessError as error:
        said: Any = error.stderr
        pytest.skip(f"psycopg2 cannot be installed for {runtime}: {said.decode(errors='replace')[-300:]}")


def test_a_database_connection_is_closed_before_the_snapshot_and_opened_after_restore(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running:
        build_database_seed(running.runtime)
        with postgres(gateway(running)) as database:
            function, version = publish_seed(
                running, "database_hooks", "handler.handler", DB_HOST=database.address, DB_NAME="postgres",
                DB_USER=database.user, DB_PASSWORD=database.password, PGPORT=str(database.port),
            )  # fmt: skip
            until_true(lambda: database.connections() == 0, "the frozen function has no connection")
            reply = running.call(function, {}, version)
            assert reply.payload["statusCode"] == 200
            assert reply.payload["body"].startswith("Current time: 20")
            assert "Restore Duration" in reply.log
            assert database.connections() == 1
            again = running.call(function, {}, version)
            assert again.payload == reply.payload  # NOW() is the start of a transaction that the handler never ends
            assert database.connections() == 1
            log = running.log(function)
            assert log.count("Closed database connection before snapshot") == 1
            assert log.count("Reestablished database connection after restore") == 1
            running.client.delete_function(FunctionName=function)
            until_true(lambda: database.connections() == 0, "a clone's end closes its connection")
