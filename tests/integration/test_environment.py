"""Execution environments on real processes: every phase, and every way in which a function can misbehave."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandboxes import Workshop, call, is_root, log_lines, running, workshop
from thaw.environment.execution import Environment, Phase
from thaw.errors import InitFailed, InitTimedOut, SandboxError

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]

ECHO = "def handler(event, context):\n    return event\n"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


def body(code: str) -> str:
    """A module whose handler runs `code`."""
    lines = "\n".join(f"    {line}" for line in code.splitlines())
    return f"import os, sys, time\ndef handler(event, context):\n{lines}\n"


async def test_a_call_passes_the_event_and_returns_the_result(shop: Workshop) -> None:
    environment = await shop.ready(ECHO)
    result = await call(environment, {"some": ["thing", 1]})
    assert json.loads(result.payload) == {"some": ["thing", 1]}
    assert result.error_type is None
    assert result.function_error is None
    assert result.usable


async def test_state_stays_between_calls(shop: Workshop) -> None:
    environment = await shop.ready("n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n")
    assert [json.loads((await call(environment)).payload) for _ in range(3)] == [1, 2, 3]


async def test_headers_of_an_invocation(shop: Workshop) -> None:
    environment = await shop.ready("def handler(event, headers):\n    return headers\n")
    headers = json.loads((await call(environment)).payload)
    assert headers["Lambda-Runtime-Invoked-Function-Arn"].endswith(":function:f:1")
    assert int(headers["Lambda-Runtime-Deadline-Ms"]) > 1_600_000_000_000
    assert re.fullmatch(r"[0-9a-f-]{36}", headers["Lambda-Runtime-Aws-Request-Id"])


async def test_variables_are_those_of_lambda(shop: Workshop) -> None:
    code = body("return dict(os.environ)")
    variables = json.loads((await call(await shop.ready(code, variables={"COLOUR": "red"}))).payload)
    assert variables["COLOUR"] == "red"
    assert variables["LAMBDA_TASK_ROOT"] == "/var/task"
    assert variables["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert "AWS_ACCESS_KEY_ID" in variables
    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN" not in variables


async def test_the_log_of_a_first_call(shop: Workshop) -> None:
    environment = await shop.ready(body("print('out')\nprint('err', file=sys.stderr)"))
    result = await call(environment)
    lines = log_lines(environment)
    assert lines[0].startswith("INIT_START Runtime Version: python:3.11.v7\tRuntime Version ARN: arn:aws:lambda:")
    assert lines[1] == f"START RequestId: {result.request_id} Version: 1"
    assert lines[2:4] == ["out", "err"]
    assert lines[4] == f"END RequestId: {result.request_id}"
    assert re.fullmatch(
        rf"REPORT RequestId: {result.request_id}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB"
        r"\tMax Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms\t",
        lines[5],
    )
    assert result.log_tail.decode().splitlines() == lines[1:6]


async def test_init_duration_is_reported_once(shop: Workshop) -> None:
    environment = await shop.ready(ECHO)
    first, second = await call(environment), await call(environment)
    assert b"Init Duration" in first.log_tail
    assert b"Init Duration" not in second.log_tail


async def test_an_error_of_the_function_leaves_the_environment_usable(shop: Workshop) -> None:
    environment = await shop.ready("def handler(event, context):\n    return 1 / event\n")
    failed, good = await call(environment, 0), await call(environment, 2)
    assert failed.function_error == "Unhandled"
    assert json.loads(failed.payload)["errorType"] == "ZeroDivisionError"
    assert failed.usable
    assert b"ZeroDivisionError: division by zero" in failed.log_tail
    assert good.payload == b"0.5"


async def test_a_timeout_kills_with_lambdas_words(shop: Workshop) -> None:
    environment = await shop.ready(body("print('before', flush=True)\ntime.sleep(60)"), timeout_s=0.5)
    pid = environment.host_pid
    result = await call(environment)
    message = f"RequestId: {result.request_id} Error: Task timed out after 0.50 seconds"
    assert json.loads(result.payload) == {"errorType": "Sandbox.Timedout", "errorMessage": message}
    assert not result.usable
    tail = result.log_tail.decode().splitlines()
    assert tail[1] == "before"
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(rf"{stamp} {result.request_id} Task timed out after 0\.50 seconds", tail[2])
    assert tail[4].endswith("\tStatus: timeout")
    await environment.close()
    assert not running(pid)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(3)", "Runtime exited with error: exit status 3"),
        ("os._exit(0)", "Runtime exited without providing a reason"),
        ("os.kill(os.getpid(), 9)", "Runtime exited with error: signal: killed"),
        ("os.kill(os.getpid(), 11)", "Runtime exited with error: signal: segmentation fault"),
    ],
)
async def test_a_process_that_ends_is_an_error_of_that_call(shop: Workshop, code: str, reason: str) -> None:
    environment, other = await shop.ready(body(code)), await shop.ready(ECHO)
    result = await call(environment)
    message = f"RequestId: {result.request_id} Error: {reason}"
    assert json.loads(result.payload) == {"errorType": "Runtime.ExitError", "errorMessage": message}
    assert not result.usable
    assert result.log_tail.decode().splitlines()[1:3] == [message, "Runtime.ExitError"]
    assert b"\tStatus: error\tError Type: Runtime.ExitError" in result.log_tail
    assert (await call(other, 5)).payload == b"5"


LAST_WORDS = """
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
api = socket.create_connection((host, int(port)))
answer = b'"' + b"x" * event["size"] + b'"'
path = "/2018-06-01/runtime/invocation/" + context["Lambda-Runtime-Aws-Request-Id"] + "/response"
head = f"POST {path} HTTP/1.1\\r\\nHost: api\\r\\nContent-Length: {len(answer)}\\r\\n\\r\\n"
api.sendall(head.encode() + answer)
if event["child"] and os.fork() == 0:
    time.sleep(99)  # which holds all connections open
os._exit(0)
"""


@pytest.mark.parametrize("child", [False, True])
@pytest.mark.parametrize("size", [10, 5_000_000])
async def test_an_answer_is_heard_although_the_process_ended_with_it(shop: Workshop, child: bool, size: int) -> None:
    environment = await shop.ready("import socket\n" + body(LAST_WORDS))
    result = await call(environment, {"child": child, "size": size})
    assert json.loads(result.payload) == "x" * size
    assert not result.usable


async def test_allocating_forever_is_out_of_memory_and_harms_nobody(shop: Workshop) -> None:
    environment = await shop.ready(body("kept = []\nwhile True:\n    kept.append(bytearray(1 << 20))"), memory_mib=128)
    other = await shop.ready(ECHO)
    result = await call(environment)
    assert json.loads(result.payload)["errorType"] == "Runtime.OutOfMemory"
    assert json.loads(result.payload)["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert result.max_memory_mib == 128
    assert (await call(other, 5)).payload == b"5"


async def test_forking_forever_meets_the_process_limit(tmp_path: Path) -> None:
    code = body(
        "count = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            time.sleep(99)\n        count += 1\n"
        "except BlockingIOError as error:\n    return count"
    )
    async with workshop(tmp_path, process_limit=64) as shop:
        environment, other = await shop.ready(code), await shop.ready(ECHO)
        result = await call(environment)
        assert result.payload == b"63"
        pids = environment.processes()
        assert len(pids) == 65
        assert (await call(other, 5)).payload == b"5"
        await environment.close()
        assert not [pid for pid in pids if running(pid)]


async def test_of_a_thousand_processes_none_is_overlooked_and_none_is_left(tmp_path: Path) -> None:
    code = body("pids = [os.posix_spawn('/bin/sleep', ['sleep', '99'], {}) for _ in range(event)]\nreturn len(pids)")
    async with workshop(tmp_path, process_limit=1100) as shop:
        environment = await shop.ready(code, memory_mib=3008, timeout_s=60.0)
        result = await call(environment, 1000)
        assert result.payload == b"1000"
        pids = environment.processes()
        assert len(set(pids)) == 1002, "with the function and PID 1"
        await environment.close()
        assert not [pid for pid in pids if running(pid)]


async def test_printing_forever_is_bounded(tmp_path: Path) -> None:
    code = body("while True:\n    os.write(1, b'x' * 99 + b'\\n')")
    async with workshop(tmp_path, log_limit=300_000) as shop:
        environment, other = await shop.ready(code, timeout_s=1.0), await shop.ready(ECHO)
        printing = asyncio.create_task(call(environment))
        assert (await call(other, 5)).payload == b"5"
        result = await printing
        assert json.loads(result.payload)["errorType"] == "Sandbox.Timedout"
        path = environment.log.path
        assert path is not None
        assert path.stat().st_size < 500_000
        assert re.search(
            rb"Thaw dropped \d+ bytes of this invocation's log because it is limited to 300000", result.log_tail
        )


async def test_a_line_without_end_does_not_grow(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        environment = await shop.ready(body("os.write(1, b'y' * 600_000)"))
        await call(environment)
        lengths = [len(line) for line in log_lines(environment) if line.startswith("y")]
        assert sum(lengths) == 600_000
        assert max(lengths) < 400_000


async def test_a_response_over_six_mebibytes(shop: Workshop) -> None:
    environment = await shop.ready(body("return 'z' * event"))
    fits, large = await call(environment, 6 * 1024 * 1024), await call(environment, 7 * 1024 * 1024)
    assert len(fits.payload) == 6 * 1024 * 1024 + 2
    assert json.loads(large.payload)["errorType"] == "Function.ResponseSizeTooLarge"
    assert large.usable


async def test_an_import_error_fails_init_with_the_runtimes_document(shop: Workshop) -> None:
    environment = await shop.launched("import nothing_of_that_name\n")
    with pytest.raises(InitFailed) as raised:
        await environment.initialised(20.0)
    assert raised.value.error_type == "Runtime.ImportModuleError"
    assert json.loads(raised.value.payload)["errorMessage"] == "No module named 'nothing_of_that_name'"
    last = log_lines(environment)[-1]
    assert re.fullmatch(
        r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\tStatus: error\tError Type: Runtime\.ImportModuleError",
        last,
    )
    with pytest.raises(SandboxError, match="is not idle"):
        await call(environment)


async def test_a_runtime_that_exits_in_init(shop: Workshop) -> None:
    environment = await shop.launched("import os\nos._exit(7)\n")
    with pytest.raises(InitFailed) as raised:
        await environment.initialised(20.0, "an-id")
    assert json.loads(raised.value.payload) == {
        "errorType": "Runtime.ExitError",
        "errorMessage": "RequestId: an-id Error: Runtime exited with error: exit status 7",
    }


async def test_init_that_takes_too_long(shop: Workshop) -> None:
    environment = await shop.launched("import time\ntime.sleep(60)\n")
    with pytest.raises(InitTimedOut):
        await environment.initialised(0.3)
    assert log_lines(environment)[-1].endswith("\tPhase: init\tStatus: timeout")


async def test_a_missing_interpreter_is_a_sentence(shop: Workshop) -> None:
    settings = shop.settings(ECHO)
    absent = settings.runtime
    object.__setattr__(absent, "argv", ("/var/lang/bin/absent",))
    environment = await shop.launched(ECHO, runtime=absent)
    with pytest.raises((InitFailed, SandboxError), match=r"absent|exited"):
        await environment.initialised(5.0)


def switches(pid: int) -> list[str]:
    """How often each thread of a process has been given and has given up a processor, as the kernel counts it."""
    files = sorted(Path(f"/proc/{pid}/task").glob("*/status"))
    return [line for file in files for line in file.read_text().splitlines() if "ctxt_switches" in line]


async def test_an_idle_environment_is_frozen_and_wakes_for_the_next_call(shop: Workshop) -> None:
    code = (
        "import threading, time\ndef tick():\n    while True:\n        time.sleep(0.001)\n"
        "threading.Thread(target=tick, daemon=True).start()\ndef handler(event, context):\n    return event\n"
    )
    environment = await shop.ready(code)
    await call(environment)
    while not environment.frozen:
        await asyncio.sleep(0.005)
    before = switches(environment.host_pid)
    await asyncio.sleep(0.2)
    assert switches(environment.host_pid) == before
    assert (await call(environment, 5)).payload == b"5"
    assert switches(environment.host_pid) != before


async def test_a_frozen_environment_can_be_closed(shop: Workshop) -> None:
    environment = await shop.ready(ECHO)
    await call(environment)
    while not environment.frozen:
        await asyncio.sleep(0.005)
    pids = environment.processes()
    await environment.close()
    assert not [pid for pid in pids if running(pid)]
    assert environment.phase is Phase.CLOSED
    await environment.close()


async def test_death_while_idle_is_an_error_of_the_next_call(shop: Workshop) -> None:
    code = "import os, threading\ndef handler(event, context):\n    threading.Timer(0.0005, os._exit, [4]).start()\n"
    environment = await shop.ready(code)
    await call(environment)
    await asyncio.sleep(0.1)
    if environment.phase is Phase.IDLE:  # frozen before the timer fired: it fires when the next call wakes it
        result = await call(environment)
        if result.error_type is None:
            result = await call(environment)
        assert result.error_type == "Runtime.ExitError"
    assert environment.phase is Phase.ENDED


async def test_closing_the_connection_to_the_runtime_api(shop: Workshop) -> None:
    code = body("for fd in range(3, 64):\n    try:\n        os.close(fd)\n    except OSError:\n        pass\nreturn 1")
    environment, other = await shop.ready(code, timeout_s=2.0), await shop.ready(ECHO)
    result = await call(environment)
    assert result.error_type in ("Runtime.ExitError", "Sandbox.Timedout")
    assert (await call(other, 5)).payload == b"5"


async def ready_for_snapshot(shop: Workshop, code: str) -> Environment:
    return await shop.ready(code, initialization_type="snap-start")


async def test_snap_start_waits_in_restore_next_and_reports_init(shop: Workshop) -> None:
    environment = await ready_for_snapshot(shop, ECHO)
    assert environment.runtime_connection_port > 1024
    assert re.fullmatch(r"INIT_REPORT Init Duration: \d+\.\d\d ms", log_lines(environment)[-1])


CREDENTIALS = """
import json, os, urllib.request, urllib.error
def fetch(token):
    request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
    request.add_header("Authorization", token)
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        return error.code
seen = [fetch(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]), fetch("another")]
print(json.dumps(seen))
print("AWS_ACCESS_KEY_ID" in os.environ)
def handler(event, context):
    return seen
"""


async def test_the_credentials_endpoint(shop: Workshop) -> None:
    environment = await ready_for_snapshot(shop, CREDENTIALS)
    await environment.close()
    lines = log_lines(environment)
    good, bad = json.loads(lines[1] if lines[1].startswith("[") else lines[2])
    assert set(good) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    assert bad == 404
    assert "False" in lines


ODD_REQUESTS = """
import http.client
def ask(method, path, body=None):
    api = http.client.HTTPConnection("127.0.0.1:9001")
    api.request(method, path, body)
    return api.getresponse().status
def handler(event, headers):
    base, own = "/2018-06-01/runtime/", headers["Lambda-Runtime-Aws-Request-Id"]
    return [
        ask("GET", "/nowhere"), ask("POST", base + "init/error", "{}"), ask("GET", base + "restore/next"),
        ask("POST", base + "invocation/another/response", "1"), ask("PUT", base + "invocation/next"),
        ask("GET", "/2018-06-01/ping"), ask("GET", base + "invocation/next"),
        ask("POST", base + f"invocation/{own}/response", "2"), ask("POST", base + f"invocation/{own}/response", "3"),
    ]
"""


async def test_requests_that_the_state_or_the_router_refuses(shop: Workshop) -> None:
    environment = await shop.ready(
        ODD_REQUESTS + "\nreal = handler\ndef handler(event, headers):\n    print(real(event, headers))\n"
    )
    result = await call(environment)
    assert result.payload == b"2"
    assert "[404, 403, 404, 400, 405, 200, 200, 202, 403]" in log_lines(environment)


async def test_tmp_is_private_writable_and_bounded(shop: Workshop) -> None:
    code = body(
        "try:\n    with open('/tmp/f', 'wb') as f:\n        f.write(bytes(event<<20))\n    return os.listdir('/tmp')\n"
        "except OSError as error:\n    return error.errno"
    )
    one, other = await shop.ready(code, ephemeral_mib=32), await shop.ready(code, ephemeral_mib=32)
    assert json.loads((await call(one, 8)).payload) == ["f"]
    assert json.loads((await call(other, 40)).payload) == 28


async def test_a_function_reaches_a_server_on_this_machine(shop: Workshop) -> None:
    gateway = shop.pool.gateway
    if gateway is None:
        pytest.skip("no network for sandboxes on this machine")
    server = await asyncio.start_server(lambda reader, writer: writer.close(), gateway, 0)
    port = server.sockets[0].getsockname()[1]
    code = body("import socket\nsocket.create_connection(tuple(event), 3)\nreturn 'reached'")
    result = await call(await shop.ready(code), [gateway, port])
    server.close()
    assert result.payload == b'"reached"'


async def test_cpu_is_limited_by_memory_size_and_only_in_invoke(tmp_path: Path) -> None:
    code = (
        "import time\ndef burn(wanted):\n    began = time.monotonic()\n    while time.process_time() < wanted: pass\n"
        "    return time.monotonic() - began\nspent = burn(0.3)\n"
        "def handler(event, context):\n    start = time.process_time()\n    return [spent, burn(start + 0.05)]\n"
    )
    async with workshop(tmp_path) as shop:
        environment = await shop.ready(code, memory_mib=177)
        _, limited = json.loads((await call(environment)).payload)
        # 50 ms of CPU at a tenth of a processor take half a second, less one slice.
        assert limited > 0.3
