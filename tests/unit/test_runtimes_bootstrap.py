"""The bootstrap and the real runtime interface client, run against a small Runtime API, without a sandbox."""

import asyncio
import json
import os
import queue
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from thaw.runtimes import Runtimes
from thaw.runtimes.client import _remove_abandoned
from thaw.runtimes.interpreters import discover

pytestmark = pytest.mark.package_index

HANDLER = """
import os, random, sys
from snapshot_restore import register_after_restore
import snapshot_restore_py

random.seed(7)
order = ["init"]
for number in (1, 2):
    snapshot_restore_py.register_before_snapshot(order.append, "before %d" % number)
    snapshot_restore_py.register_after_restore(order.append, "after %d" % number)

@register_after_restore
def draw():
    order.append(random.random())

def handler(event, context):
    print("handling", event["name"])
    return {"order": order, "path": sys.path, "flag": os.environ.get("THAW_RESEED"), "id": context.aws_request_id,
            "random": random.random(), "exit": repr(exit), "hooks": snapshot_restore_py.__file__}
"""


@dataclass
class RuntimeApi:
    """What the runtime asked of us, in order, and what it will be answered."""

    address: str = ""
    asked: list[str] = field(default_factory=list)
    posted: "queue.Queue[tuple[str, str | None, dict[str, object]]]" = field(default_factory=queue.Queue)
    events: "queue.Queue[dict[str, object] | None]" = field(default_factory=queue.Queue)
    in_restore_next: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def next_posted(self) -> tuple[str, str | None, dict[str, object]]:
        return self.posted.get(timeout=30)


def serve(api: RuntimeApi) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            api.asked.append(self.path.rsplit("runtime/")[-1])
            if self.path.endswith("restore/next"):
                api.in_restore_next.set()
                api.release.wait(30)
                return self.answer(200, b"")
            event = api.events.get()
            if event is None:
                self.close_connection = True
                return None
            return self.answer(200, json.dumps(event).encode(), {
                "Content-Type": "application/json",  # without it the real client dies of a null pointer
                "Lambda-Runtime-Aws-Request-Id": "request-1",
                "Lambda-Runtime-Deadline-Ms": "9999999999999",
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
            })  # fmt: skip

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.rsplit("runtime/")[-1]
            api.asked.append(path)
            api.posted.put((path, self.headers.get("Lambda-Runtime-Function-Error-Type"), json.loads(body)))
            self.answer(202, b'{"status":"OK"}')

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.address = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    state = RuntimeApi()
    server = serve(state)
    yield state
    state.release.set()
    state.events.put(None)
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Installed:
    executable: Path
    client: Path
    name: str


@pytest.fixture(scope="module")
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
        process.communicate()


class Start:
    """Runs the bootstrap as a sandbox would, with other folders."""

    def __init__(self, installed: Installed, api: RuntimeApi, task: Path) -> None:
        self.installed, self.api, self.task = installed, api, task
        self.processes: list[subprocess.Popen[str]] = []
        task.mkdir()

    def __call__(self, code: str = HANDLER, *, kind: str = "snap-start", **variables: str) -> "subprocess.Popen[str]":
        (self.task / "function.py").write_text(code)
        process = subprocess.Popen(
            [self.installed.executable, "-S", self.installed.client / "bootstrap.py"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.task,
            env={
                "PATH": os.environ["PATH"], "PYTHONPATH": str(self.installed.client), "_HANDLER": "function.handler",
                "LAMBDA_TASK_ROOT": str(self.task), "LAMBDA_RUNTIME_DIR": str(self.installed.client),
                "AWS_LAMBDA_RUNTIME_API": self.api.address, "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
                "AWS_EXECUTION_ENV": f"AWS_Lambda_{self.installed.name}", **variables,
            },
        )  # fmt: skip
        self.processes.append(process)
        return process


def call(api: RuntimeApi) -> dict[str, object]:
    api.events.put({"name": "Vega"})
    path, error_type, body = api.next_posted()
    assert (path, error_type) == ("invocation/request-1/response", None)
    return body


def test_hooks_run_around_restore_next_in_lambdas_order(start: Start, api: RuntimeApi) -> None:
    start()
    assert api.in_restore_next.wait(30)
    assert api.asked == ["restore/next"]
    api.release.set()
    answer = call(api)
    order = answer["order"]
    assert isinstance(order, list)
    assert order[:5] == ["init", "before 2", "before 1", "after 1", "after 2"]
    assert answer["id"] == "request-1"
    assert answer["flag"] is None


def test_after_restore_hooks_draw_from_a_fresh_stream(start: Start, api: RuntimeApi) -> None:
    start()
    api.release.set()
    order = call(api)["order"]
    assert isinstance(order, list)
    assert order[-1] != random.Random(7).random()


def test_reseeding_can_be_switched_off(start: Start, api: RuntimeApi) -> None:
    start(THAW_RESEED="0")
    api.release.set()
    answer = call(api)
    assert isinstance(answer["order"], list)
    assert answer["order"][-1] == random.Random(7).random()
    assert answer["flag"] is None


def test_search_path_is_lambdas(start: Start, api: RuntimeApi) -> None:
    start()
    api.release.set()
    answer = call(api)
    path = answer["path"]
    assert isinstance(path, list)
    packages = f"/opt/python/lib/{start.installed.name}/site-packages"
    assert path[:4] == [str(start.task), packages, "/opt/python", str(start.installed.client)]
    assert len(path) == len(set(path))
    assert not [entry for entry in path[4:] if "site-packages" in entry or "dist-packages" in entry]
    assert answer["exit"] == repr(exit)


def test_the_functions_own_copy_of_the_hooks_module_does_not_split_the_registry(start: Start, api: RuntimeApi) -> None:
    (start.task / "snapshot_restore_py.py").write_text("raise ImportError('the shadow was imported')")
    start()
    api.release.set()
    assert call(api)["hooks"] == str(start.installed.client / "snapshot_restore_py.py")


def test_without_snapstart_no_hook_runs(start: Start, api: RuntimeApi) -> None:
    start(kind="on-demand")
    answer = call(api)
    assert answer["order"] == ["init"]
    assert api.asked[0] == "invocation/next"
    assert answer["random"] == random.Random(7).random()


def test_output_of_the_handler_reaches_the_log_at_once(start: Start, api: RuntimeApi) -> None:
    process = start(kind="on-demand")
    call(api)
    assert process.stdout is not None
    assert process.stdout.readline() == "handling Vega\n"


@pytest.mark.parametrize(
    ("code", "error_type", "status"),
    [
        ("import does_not_exist", "Runtime.ImportModuleError", 1),
        ("handler = ", "Runtime.UserCodeSyntaxError", 1),
        ("other = 1", "Runtime.HandlerNotFound", 1),
        ("raise ValueError('bad')", "ValueError", 1),
    ],
)
def test_a_failing_init_is_posted(start: Start, api: RuntimeApi, code: str, error_type: str, status: int) -> None:
    process = start(code)
    path, header, body = api.next_posted()
    assert (path, header, body["errorType"]) == ("init/error", error_type, error_type)
    assert process.wait(30) == status


@pytest.mark.parametrize(
    ("hook", "path", "header", "status"),
    [
        ("register_before_snapshot", "init/error", "Runtime.BeforeSnapshotError", 64),
        ("register_after_restore", "restore/error", "Runtime.AfterRestoreError", 65),
    ],
)
def test_a_failing_hook_is_posted(
    start: Start, api: RuntimeApi, hook: str, path: str, header: str, status: int
) -> None:
    hooked = f"import snapshot_restore\n@snapshot_restore.{hook}\ndef fail(): raise RuntimeError('no database')\n"
    process = start(hooked + HANDLER)
    api.release.set()
    assert api.next_posted()[:2] == (path, header)
    assert process.wait(30) == status


def test_client_folder_is_compiled_for_the_path_that_the_sandbox_sees(installed: Installed) -> None:
    sources = [file for file in installed.client.rglob("*.py") if "awslambdaric" in file.parts]
    assert sources
    program = "import marshal,sys; print(marshal.loads(open(sys.argv[1],'rb').read()[16:]).co_filename)"
    for source in [*sources, installed.client / "bootstrap.py"]:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", "compiled against a hash that nobody checks"
    said = subprocess.run([installed.executable, "-c", program, compiled], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "/var/runtime/bootstrap.py"


def test_client_folder_can_be_read_by_the_functions_user(installed: Installed) -> None:
    for file in [installed.client, *installed.client.rglob("*")]:
        assert file.stat().st_mode & 0o444 == 0o444, file
        assert not file.is_dir() or file.stat().st_mode & 0o555 == 0o555, file


def test_half_installed_folders_of_dead_servers_are_removed(tmp_path: Path, installed: Installed) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / f".part-{dead.stdout.strip()}-x" / "boto3").mkdir(parents=True)
    (tmp_path / f".part-{os.getpid()}-y").mkdir()
    (tmp_path / installed.client.name).mkdir()
    _remove_abandoned(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {f".part-{os.getpid()}-y", installed.client.name}
