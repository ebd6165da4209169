"""Functions that misbehave: each gets the error that Lambda gives, and the next call of another function is fine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from packing import package
from serving import ROLE, Reply, Served, Traces, served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

GOOD = "def handler(event, context):\n    return ['good', event]\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as running:
        running.create("good", GOOD)
        running.call("good", "first")
        yield running
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


@pytest.fixture(autouse=True)
def the_next_call_of_another_function_is_unaffected(server: Served) -> Iterator[None]:
    yield
    began = time.monotonic()
    assert server.call("good", 1).payload == ["good", 1]
    assert time.monotonic() - began < 5


def failing(server: Served, name: str, source: str, *, event: object = None, **settings: object) -> Reply:
    server.create(name, source, **settings)
    reply = server.call(name, event)
    assert reply.error == "Unhandled"
    return reply


@pytest.mark.parametrize(
    "content", [b"", b"this is no zip", package({"app.py": b"x"})[:40]], ids=["empty", "text", "cut"]
)
def test_a_malformed_zip_is_refused(server: Served, content: bytes) -> None:
    with pytest.raises(ClientError) as caught:
        server.client.create_function(
            FunctionName="malformed",
            Runtime=server.runtime,
            Role=ROLE,
            Handler="app.handler",
            Code={"ZipFile": content},
        )
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    with pytest.raises(ClientError, match="Function not found"):
        server.client.get_function(FunctionName="malformed")


def test_a_missing_module(server: Served) -> None:
    reply = failing(server, "no-module", GOOD, handler="nothing.handler")
    assert reply.payload["errorType"] == "Runtime.ImportModuleError"
    assert "Unable to import module 'nothing': No module named 'nothing'" in reply.payload["errorMessage"]


def test_a_missing_handler(server: Served) -> None:
    reply = failing(server, "no-handler", GOOD, handler="app.other")
    assert reply.payload["errorType"] == "Runtime.HandlerNotFound"
    assert "Handler 'other' missing on module 'app'" in reply.payload["errorMessage"]


def test_an_import_error_in_init(server: Served) -> None:
    reply = failing(server, "import-error", "import a_module_that_nobody_has\n" + GOOD)
    assert reply.payload["errorType"] == "Runtime.ImportModuleError"
    assert "No module named 'a_module_that_nobody_has'" in reply.payload["errorMessage"]
    log = server.log("import-error")
    assert log.count("INIT_START Runtime Version") == 2  # Lambda tries Init once more, as a part of the call
    assert "Phase: init\tStatus: error\tError Type: Runtime.ImportModuleError" in log


def test_an_exception_in_the_handler(server: Served) -> None:
    reply = failing(server, "raises", "def handler(event, context):\n    raise KeyError('absent')\n")
    assert reply.payload["errorType"] == "KeyError"
    assert reply.payload["errorMessage"] == "'absent'"
    assert reply.payload["stackTrace"]


def test_an_init_that_never_ends(server: Served) -> None:
    server.create("endless", "import time\ntime.sleep(600)\n" + GOOD, Timeout=2)
    began = time.monotonic()
    reply = server.call("endless")
    assert 11 < time.monotonic() - began < 30  # 10 s for Init, then the function's timeout
    assert reply.error == "Unhandled"
    assert "timed out" in reply.payload["errorMessage"]


def test_printing_forever(server: Served) -> None:
    reply = failing(
        server, "prints", "def handler(event, context):\n    while True:\n        print('x' * 1000)\n", Timeout=3
    )
    assert "Task timed out after 3.00 seconds" in reply.payload["errorMessage"]
    assert sum(file.stat().st_size for file in (server.state_dir / "logs/aws/lambda/prints").rglob("*")) < 64 << 20


def test_allocating_forever(server: Served) -> None:
    source = (
        "def handler(event, context):\n    kept = []\n"
        "    while True:\n        kept.append(bytearray(b'x') * (1 << 20))\n"
    )
    reply = failing(server, "allocates", source, Timeout=60, MemorySize=128)
    assert reply.payload["errorType"] == "Runtime.OutOfMemory" or "signal: killed" in reply.payload["errorMessage"]


def test_filling_tmp(server: Served) -> None:
    source = (
        "def handler(event, context):\n    with open('/tmp/x', 'wb') as file:\n"
        "        while True:\n            file.write(bytes(1 << 20))\n"
    )
    reply = failing(server, "fills", source, Timeout=30)
    assert "No space left on device" in reply.payload["errorMessage"]


def test_forking_forever(server: Served) -> None:
    source = (
        "import os, time\ndef handler(event, context):\n    while True:\n"
        "        try:\n            os.fork()\n        except OSError:\n            time.sleep(0.1)\n"
    )
    reply = failing(server, "forks", source, Timeout=3)
    assert reply.payload["errorMessage"]


def test_closing_the_runtime_api_socket(server: Served) -> None:
    source = (
        "import os\ndef handler(event, context):\n    for number in range(3, 100):\n"
        "        try:\n            os.close(number)\n        except OSError:\n            pass\n    return 1\n"
    )
    server.create("closes", source, Timeout=5)
    for _ in range(2):  # the real client opens a new connection, so the answer arrives all the same
        reply = server.call("closes")
        assert (reply.error, reply.payload) == (None, 1)


@pytest.mark.parametrize("status", [0, 1, 139])
def test_exiting(server: Served, status: int) -> None:
    reply = failing(server, f"exits-{status}", f"import os\ndef handler(event, context):\n    os._exit({status})\n")
    assert reply.payload["errorType"] == "Runtime.ExitError"
    assert "Runtime exited" in reply.payload["errorMessage"]


def test_dying_of_a_signal(server: Served) -> None:
    reply = failing(
        server, "signal", "import os\ndef handler(event, context):\n    os.kill(os.getpid(), 11)\n    return 1\n"
    )
    assert reply.payload["errorType"] == "Runtime.ExitError"
    assert "signal: segmentation fault" in reply.payload["errorMessage"]


def test_a_response_that_is_no_json(server: Served) -> None:
    reply = failing(server, "no-json", "def handler(event, context):\n    return object()\n")
    assert reply.payload["errorType"] == "Runtime.MarshalError"


def test_a_response_that_is_too_large(server: Served) -> None:
    reply = failing(
        server, "large", "def handler(event, context):\n    return 'x' * (7 << 20)\n", Timeout=20, MemorySize=1024
    )
    assert reply.payload["errorType"] == "Function.ResponseSizeTooLarge"


def test_an_exit_while_a_version_is_published(server: Served) -> None:
    server.create("dies", "import os\nos._exit(3)\n", SnapStart={"ApplyOn": "PublishedVersions"})
    version = server.client.publish_version(FunctionName="dies")["Version"]
    deadline = time.monotonic() + 30
    state = "Pending"
    while state == "Pending" and time.monotonic() < deadline:
        found = server.client.get_function_configuration(FunctionName="dies", Qualifier=version)
        state = found["State"]
    assert state == "Failed"
    assert found["StateReasonCode"] == "FunctionError.RuntimeInitError"
    assert found["StateReason"].startswith("An error occurred during function initialization.")
    with pytest.raises(ClientError, match="currently in the following state: Failed"):
        server.call("dies", None, version)
