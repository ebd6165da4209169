"""Lambda Extensions: external ones from a layer, internal ones of the runtime's process, their events, their end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sandboxes import Workshop, call, is_root, log_lines, workshop
from thaw.environment.execution import Environment
from thaw.errors import InitFailed, InitTimedOut

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]

FUNCTION = """
def handler(event, headers):
    return {"hello": event}
"""
# An extension in Python, as AWS's samples are: registers, then prints every event that it gets.
EXTENSION = """#!/var/lang/bin/python3
import http.client, json, os, sys
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
NAME = os.path.basename(__file__)

def ask(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    api.request(method, "/2020-01-01/extension/" + path, body and json.dumps(body), headers)
    answer = api.getresponse()
    return answer.status, answer.headers, json.loads(answer.read() or b"null")

status, headers, document = ask(
    "POST", "register", {"events": EVENTS}, Lambda_Extension_Name=NAME, Lambda_Extension_Accept_Feature="accountId"
)
IDENTIFIER = headers["Lambda-Extension-Identifier"]
print(f"{NAME} registered {status} {json.dumps(document)}", flush=True)

def after_register():
    pass

def on(event):
    print(f"{NAME} got {json.dumps(event)}", flush=True)

REST
after_register()
while True:
    status, headers, event = ask("GET", "event/next", Lambda_Extension_Identifier=IDENTIFIER)
    assert headers["Lambda-Extension-Event-Identifier"], headers
    on(event)
    if event["eventType"] == "SHUTDOWN":
        sys.exit(0)
"""
BOTH = '["INVOKE", "SHUTDOWN"]'


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


def layer(folder: Path, **extensions: str) -> Path:
    """Merged layers with these programs under extensions/."""
    made = folder / "layer" / "extensions"
    made.mkdir(parents=True)
    for name, text in extensions.items():
        (made / name).write_text(text)
        (made / name).chmod(0o755)
    return made.parent


def program(events: str = BOTH, rest: str = "") -> str:
    return EXTENSION.replace("EVENTS}", events + "}").replace("REST", rest)


def said(environment: Environment, pattern: str) -> list[str]:
    return [line for line in log_lines(environment) if re.search(pattern, line)]


def events(environment: Environment, name: str) -> list[dict[str, Any]]:
    """What an extension printed of its events."""
    return [json.loads(line.split(" got ", 1)[1]) for line in said(environment, f"{name} got ")]


async def test_an_external_extension_is_told_of_calls_and_of_the_end(shop: Workshop) -> None:
    environment = await shop.ready(FUNCTION, layers=layer(shop.folder, watcher=program()))
    result = await call(environment, "one")
    assert json.loads(result.payload) == {"hello": "one"}
    await call(environment, "two")
    await environment.close()
    first, second, last = events(environment, "watcher")
    assert {"eventType": "INVOKE", "requestId": result.request_id}.items() <= first.items()
    assert first["invokedFunctionArn"] == environment.settings.function_arn
    assert first["deadlineMs"] > 0
    assert second["requestId"] != first["requestId"]
    assert (last["eventType"], last["shutdownReason"]) == ("SHUTDOWN", "spindown")


async def test_the_log_and_what_registration_answers(shop: Workshop) -> None:
    environment = await shop.ready(FUNCTION, layers=layer(shop.folder, watcher=program(), quiet=program("[]")))
    await call(environment)
    (registered,) = said(environment, "watcher registered")
    assert registered.startswith("watcher registered 200 ")
    assert json.loads(registered.split(" ", 3)[3]) == {
        "functionName": "f", "functionVersion": "1", "handler": "app.handler", "accountId": "000000000000",
    }  # fmt: skip
    lines = log_lines(environment)
    states = [line for line in lines if line.startswith("EXTENSION")]
    assert states == [
        "EXTENSION\tName: quiet\tState: Ready\tEvents: []",
        "EXTENSION\tName: watcher\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
    ]
    assert lines.index(states[1]) < next(index for index, line in enumerate(lines) if line.startswith("START"))
    assert events(environment, "quiet") == []


async def test_the_runtime_starts_when_all_extensions_have_registered(shop: Workshop) -> None:
    slow = EXTENSION.replace("EVENTS}", BOTH + "}").replace("REST", "").replace("status, headers, document = ask(", (
        "import time; time.sleep(0.5); print('late', flush=True)\nstatus, headers, document = ask("
    ), 1)  # fmt: skip
    code = "print('the function is imported', flush=True)\n" + FUNCTION
    environment = await shop.ready(code, layers=layer(shop.folder, slow=slow))
    order = [line.split()[0] for line in said(environment, "late|slow registered|imported")]
    assert order == ["late", "slow", "the"]


async def test_a_call_ends_when_the_extension_is_done_with_it(shop: Workshop) -> None:
    busy = """
def on(event):
    import time
    time.sleep(0.4)
    print("flushed", flush=True)
"""
    environment = await shop.ready(FUNCTION, layers=layer(shop.folder, busy=program('["INVOKE"]', busy)))
    result = await call(environment)
    assert result.duration_ms >= 400
    lines = log_lines(environment)
    assert lines.index("flushed") < next(index for index, line in enumerate(lines) if line.startswith("END"))


async def test_the_caller_has_its_answer_while_the_extension_works_on(shop: Workshop) -> None:
    busy = """
def on(event):
    import time
    while not os.path.exists("/tmp/go"):
        time.sleep(0.005)
    print("flushed", flush=True)
"""
    environment = await shop.ready(FUNCTION, layers=layer(shop.folder, busy=program('["INVOKE"]', busy)))
    answered: asyncio.Future[tuple[bytes, str]] = asyncio.get_running_loop().create_future()
    calling = asyncio.create_task(
        call(environment, "x", lambda payload, error_type: answered.set_result((payload, error_type)))
    )
    async with asyncio.timeout(20):
        payload, error_type = await answered
    assert (json.loads(payload), error_type) == ({"hello": "x"}, "")
    assert not calling.done(), "the extension holds the environment"
    Path(f"/proc/{environment.host_pid}/root/tmp/go").write_text("")
    result = await calling
    assert result.payload == payload
    assert result.extensions_ms is not None
    assert result.duration_ms >= result.extensions_ms > 0


async def test_who_is_quick_delays_nobody_and_is_not_in_the_way(shop: Workshop) -> None:
    """The answer comes with the end of the call, so that the environment is free when the caller has it."""
    environment = await shop.ready(FUNCTION, layers=layer(shop.folder, quick=program('["INVOKE"]')))
    early: list[bytes] = []
    for _ in range(3):
        result = await call(environment, "x", lambda payload, error_type: early.append(payload))
        assert json.loads(result.payload) == {"hello": "x"}
        await asyncio.sleep(0.02)  # a late word would come in this time
    assert len(early) <= 3, "on a machine that stands still an answer may come first, but only once"


INTERNAL = """
import http.client, json, os, threading

def ask(method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    api.request(method, "/2020-01-01/extension/" + path, body and json.dumps(body), headers)
    answer = api.getresponse()
    return answer.status, answer.headers, json.loads(answer.read() or b"null")

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
refused = ask("POST", "register", {"events": ["SHUTDOWN"]}, Lambda_Extension_Name="inner")
_, headers, _ = ask("POST", "register", {"events": ["INVOKE"]}, Lambda_Extension_Name="inner")
again = ask("POST", "register", {"events": ["INVOKE"]}, Lambda_Extension_Name="inner")
seen = []

def listen(identifier=headers["Lambda-Extension-Identifier"]):
    while True:
        _, _, event = ask("GET", "event/next", Lambda_Extension_Identifier=identifier)
        seen.append(event["eventType"])

threading.Thread(target=listen, daemon=True).start()

def handler(event, headers):
    import time
    end = time.monotonic() + 10
    while not seen and time.monotonic() < end:
        time.sleep(0.01)
    return [seen, refused[0], refused[2], again[0], again[2]]
"""


async def test_an_internal_extension_is_told_of_calls_only(shop: Workshop) -> None:
    environment = await shop.ready(INTERNAL)
    result = json.loads((await call(environment)).payload)
    assert result == [
        ["INVOKE"],
        403, {
            "errorMessage": "SHUTDOWN: event is not supported for internal extensions",
            "errorType": "Extension.InvalidEventType",
        },
        403, {
            "errorMessage": "Extension with this name already registered",
            "errorType": "Extension.InvalidExtensionState",
        },
    ]  # fmt: skip
    assert "EXTENSION\tName: inner\tState: Ready\tEvents: [INVOKE]" in log_lines(environment)


ASKING = """
import http.client, json, os

def ask(method, path, headers):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request(method, path, "{}", headers)
    answer = api.getresponse()
    return [answer.status, json.loads(answer.read())["errorType"]]

def handler(event, headers):
    return [ask(*each) for each in event]
"""


async def test_what_the_extensions_api_refuses(shop: Workshop) -> None:
    environment = await shop.ready(ASKING)
    base, unknown = "/2020-01-01/extension", "11111111-2222-3333-4444-555555555555"
    identifier = "Lambda-Extension-Identifier"
    result = await call(environment, [
        ["POST", f"{base}/register", {}],
        ["POST", f"{base}/register", {"Lambda-Extension-Name": "late"}],
        ["GET", f"{base}/event/next", {}],
        ["GET", f"{base}/event/next", {identifier: "me"}],
        ["GET", f"{base}/event/next", {identifier: unknown}],
        ["POST", f"{base}/init/error", {identifier: unknown}],
        ["PUT", "/2022-07-01/telemetry", {identifier: unknown}],
        ["PUT", "/2020-08-15/logs", {identifier: unknown}],
    ])  # fmt: skip
    assert json.loads(result.payload) == [
        [403, "Extension.InvalidExtensionName"],
        [403, "Extension.RegistrationClosed"],
        [403, "Extension.MissingExtensionIdentifier"],
        [403, "Extension.InvalidExtensionIdentifier"],
        [403, "Extension.UnknownExtensionIdentifier"],
        [403, "Extension.UnknownExtensionIdentifier"],
        [202, "Telemetry.NotSupported"],
        [202, "Logs.NotSupported"],
    ]


async def test_an_extension_that_fails_in_init_fails_it(shop: Workshop) -> None:
    failing = """
def after_register():
    print(ask("POST", "init/error", {}, Lambda_Extension_Identifier=IDENTIFIER,
              Lambda_Extension_Function_Error_Type="Extension.NoConfig"), flush=True)
"""
    environment = await shop.launched(FUNCTION, layers=layer(shop.folder, failing=program(BOTH, failing)))
    with pytest.raises(InitFailed) as failure:
        await environment.initialised(20.0)
    assert failure.value.error_type == "Extension.InitError"
    assert str(failure.value) == (
        "The Init phase failed: an extension reported Extension.InitError "
        "(Extension failing failed: Extension.NoConfig)."
    )
    assert json.loads(failure.value.payload)["errorMessage"] == "Extension failing failed: Extension.NoConfig"
    assert said(environment, "^EXTENSION") == [
        "EXTENSION\tName: failing\tState: InitError\tEvents: [INVOKE, SHUTDOWN]\tError Type: Extension.NoConfig"
    ]


async def test_an_extension_that_ends_in_a_call_ends_the_environment(shop: Workshop) -> None:
    crashing = """
def on(event):
    if event["eventType"] == "INVOKE":
        os._exit(3)
"""
    code = "import time\ndef handler(event, headers):\n    time.sleep(60)\n"
    environment = await shop.ready(code, layers=layer(shop.folder, crashing=program(BOTH, crashing)))
    result = await call(environment)
    assert (result.error_type, result.usable) == ("Extension.Crash", False)
    assert json.loads(result.payload) == {
        "errorType": "Extension.Crash",
        "errorMessage": f"RequestId: {result.request_id} Error: exit code 3",
    }


async def test_an_extension_that_is_no_program_fails_init(shop: Workshop) -> None:
    environment = await shop.launched(FUNCTION, layers=layer(shop.folder, broken="neither script nor program"))
    with pytest.raises(InitFailed) as failure:
        await environment.initialised(20.0)
    assert failure.value.error_type == "Extension.LaunchError"
    assert "fork/exec /opt/extensions/broken: exec format error" in str(failure.value)


async def test_more_extensions_than_lambda_takes_fail_init(shop: Workshop) -> None:
    many = {f"extension{number}": program() for number in range(11)}
    environment = await shop.launched(FUNCTION, layers=layer(shop.folder, **many))
    with pytest.raises(InitFailed) as failure:
        await environment.initialised(20.0)
    assert failure.value.error_type == "Extension.TooManyExtensions"
    assert json.loads(failure.value.payload)["errorMessage"] == (
        "Extension limit (10) reached: /opt/extensions holds 11 files"
    )


async def test_an_extension_that_never_registers_is_an_init_that_takes_too_long(shop: Workshop) -> None:
    environment = await shop.launched(FUNCTION, layers=layer(shop.folder, mute="#!/bin/sh\nexec sleep 1000\n"))
    with pytest.raises(InitTimedOut):
        await environment.initialised(0.5)


async def test_a_call_that_takes_too_long_is_the_reason_of_the_shutdown(shop: Workshop) -> None:
    code = "import time\ndef handler(event, headers):\n    time.sleep(60)\n"
    environment = await shop.ready(code, timeout_s=0.5, layers=layer(shop.folder, watcher=program()))
    result = await call(environment)
    assert result.error_type == "Sandbox.Timedout"
    await environment.close()
    assert events(environment, "watcher")[-1]["shutdownReason"] == "timeout"


async def test_the_shutdown_of_a_deaf_extension_is_bounded(shop: Workshop) -> None:
    deaf = """
def on(event):
    import time
    if event["eventType"] == "SHUTDOWN":
        time.sleep(1000)
"""
    environment = await shop.ready(FUNCTION, layers=layer(shop.folder, deaf=program(BOTH, deaf)))
    await call(environment)
    processes = environment.processes()
    async with asyncio.timeout(15):
        await environment.close()
    assert len(processes) == 3
    assert [number for number in processes if Path(f"/proc/{number}").exists()] == []
