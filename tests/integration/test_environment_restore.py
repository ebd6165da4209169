"""The Restore phase of an environment. A real process plays the clone: it enters the sandbox's namespaces and goes on
from a blocked restore/next, as the engine's clones do."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxes import Workshop, call, is_root, log_lines, running, workshop
from thaw.environment.cloning import CloneRequest, FillTmp
from thaw.environment.execution import Environment
from thaw.environment.users import FUNCTION_UID
from thaw.errors import EnvironmentFailure, RestoreFailed, RestoreHookFailed, RestoreTimedOut
from thaw.observe.log_stream import LogStream

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]

# Descriptor 7 is the function's end of the prepared connection.
CLONE = """
import http.client, json, os, socket, sys, time
api = http.client.HTTPConnection("127.0.0.1:9001")
api.sock = socket.socket(fileno=7)
BASE = "/2018-06-01/runtime/"

def call(method, path, body=None, headers={}):
    api.request(method, BASE + path, body, headers)
    answer = api.getresponse()
    return answer.headers, answer.read()

answer = api.sock.recv(4096)
assert answer.startswith(b"HTTP/1.1 200 OK\\r\\n") and answer.endswith(b"\\r\\n\\r\\n"), answer
"""
SERVE = """
print("after restore", flush=True)
while True:
    headers, event = call("GET", "invocation/next")
    seen = {"event": json.loads(event), "tmp": os.listdir("/tmp"), "task": os.listdir("/var/task")}
    call("POST", "invocation/" + headers["Lambda-Runtime-Aws-Request-Id"] + "/response", json.dumps(seen))
"""


@dataclass(frozen=True)
class Stand:
    pid: int
    pidfd: int


class Engine:
    """Starts `program` where a clone would start."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.pid = 0

    async def thaw(self, request: CloneRequest) -> Stand:
        target = Path(f"/proc/self/fdinfo/{request.sandbox_pidfd}").read_text()
        found = re.search(r"Pid:\s+(\d+)", target)
        assert found is not None
        enter = [
            "nsenter",
            "-t",
            found[1],
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "/var/lang/bin/python3",
            "-c",
            CLONE + self.program,
        ]
        given = ((request.connection_fd, 107), (request.log_fd, 101))
        copies = [os.dup2(source, target, inheritable=False) for source, target in given]
        placed = [(os.POSIX_SPAWN_DUP2, source, place) for source, place in ((107, 7), (101, 1), (101, 2))]
        try:
            self.pid = os.posix_spawnp("nsenter", enter, {"LD_LIBRARY_PATH": "/var/lang/lib"}, file_actions=placed)
        finally:
            for copy in copies:
                os.close(copy)
        return Stand(self.pid, os.pidfd_open(self.pid))


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


async def restored(shop: Workshop, engine: Engine, tmp: FillTmp | None = None) -> Environment:
    settings = shop.settings("", initialization_type="snap-start", credentials_token="from-the-snapshot")
    log = LogStream(shop.folder / "logs", settings.log_group, settings.version)
    environment = await Environment.restore(await shop.pool.take(), settings, log, engine.thaw, tmp)
    shop.environments.append(environment)
    return environment


def fill(folder: int, owners: Mapping[int, int]) -> None:
    file = os.open("kept", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=folder)
    owner = owners.get(FUNCTION_UID, FUNCTION_UID)
    os.fchown(file, owner, owner)
    os.close(file)


async def test_a_clone_serves_calls(shop: Workshop) -> None:
    engine = Engine(SERVE)
    environment = await restored(shop, engine, fill)
    await environment.restored(20.0)
    first, second = await call(environment, 1), await call(environment, 2)
    assert json.loads(first.payload) == {"event": 1, "tmp": ["kept"], "task": ["app.py"]}
    assert environment.credentials_token == "from-the-snapshot"
    lines = log_lines(environment)
    assert lines[0].startswith("RESTORE_START Runtime Version: python:3.11.v7\tRuntime Version ARN: arn:")
    assert "after restore" in lines
    assert [line for line in lines if re.fullmatch(r"RESTORE_REPORT Restore Duration: \d+\.\d\d ms", line)]
    reported = rb"\tRestore Duration: (\d+\.\d\d) ms\tBilled Restore Duration: (\d+) ms\t\n"
    assert re.search(reported, first.log_tail)
    assert not re.search(reported, second.log_tail)
    assert b"Init Duration" not in first.log_tail
    await environment.close()
    assert not running(engine.pid)


HOOK_FAILS = """
document = '{"errorMessage": "no database", "errorType": "KeyError"}'
call("POST", "restore/error", document, {"Lambda-Runtime-Function-Error-Type": "Runtime.AfterRestoreError"})
sys.exit(65)
"""


@pytest.mark.parametrize(
    ("program", "kind", "limit_s", "error", "line"),
    [
        (
            HOOK_FAILS,
            RestoreHookFailed,
            20.0,
            "Runtime.AfterRestoreError",
            "Status: error\tError Type: Runtime.AfterRestoreError",
        ),
        ("os._exit(9)", RestoreHookFailed, 20.0, "Runtime.ExitError", "Status: error\tError Type: Runtime.ExitError"),
        ("time.sleep(99)", RestoreTimedOut, 0.5, "Sandbox.Timedout", "Status: timeout"),
    ],
    ids=["hook", "exit", "timeout"],
)
async def test_a_restore_that_fails(
    shop: Workshop, program: str, kind: type[EnvironmentFailure], limit_s: float, error: str, line: str
) -> None:
    engine = Engine(program)
    environment = await restored(shop, engine)
    with pytest.raises(kind) as raised:
        await environment.restored(limit_s, "an-id")
    assert raised.value.error_type == error
    assert re.fullmatch(rf"RESTORE_REPORT Restore Duration: \d+\.\d\d ms\t{line}", log_lines(environment)[-1])
    await environment.close()
    assert not running(engine.pid)


async def test_an_engine_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    async def refuse(request: CloneRequest) -> Stand:
        raise RestoreFailed("The restorer stopped at mmap.", step="mmap")

    async with workshop(tmp_path, pool_size=0) as shop:
        before = len(os.listdir("/proc/self/fd"))
        engine = Engine("")
        engine.thaw = refuse  # type: ignore[method-assign]
        with pytest.raises(RestoreFailed, match="stopped at mmap"):
            await restored(shop, engine)
        assert len(os.listdir("/proc/self/fd")) == before


async def test_a_clone_that_dies_while_idle(shop: Workshop) -> None:
    engine = Engine(SERVE)
    environment = await restored(shop, engine)
    await environment.restored(20.0)
    os.kill(engine.pid, 9)
    while running(engine.pid):
        await asyncio.sleep(0.01)
    await environment.close()
    assert environment.processes() == []


OTHERS = {
    "node": ["/usr/bin/node", "-e", "console.log([1, 2].map(x => x * 2).join())"],
    "java": ["/usr/bin/java", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-version"],
    "shell": ["/bin/sh", "-c", "ls / | sort | head -1"],
}


@pytest.mark.parametrize("name", sorted(OTHERS))
async def test_other_languages_run_under_the_filter(shop: Workshop, name: str) -> None:
    if not os.path.exists(OTHERS[name][0]):
        pytest.skip(f"{name} is not installed")
    code = (
        "import os, subprocess\ndef handler(event, context):\n    os.environ.pop('LD_LIBRARY_PATH')\n"
        "    done = subprocess.run(event, capture_output=True, text=True)\n"
        "    return [done.returncode, done.stderr[-300:]]\n"
    )
    environment = await shop.ready(code, memory_mib=1024, timeout_s=30.0)
    returned = json.loads((await call(environment, OTHERS[name])).payload)
    assert returned[0] == 0, returned[1]
