"""`make soak`: tens of thousands of requests made from the service models, to a server with real functions."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from clients.fuzzing import MODEL, Fuzzer
from serving import Served, served

pytestmark = [
    pytest.mark.soak,
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

REQUESTS = int(os.environ.get("THAW_FUZZ_REQUESTS", "20000"))
SOURCE = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # Waiting functions hold environments that the machine has no memory for; short Inits keep publishes short.
    with served(tmp_path_factory.mktemp("state"), idle_timeout_s=1, init_limit_s=2, snapshot_init_limit_s=4) as running:
        yield running


def asker(server: Served) -> Callable[..., tuple[int, bytes]]:
    """One kept connection; a request that the client library refuses to write is not sent."""
    connection = http.client.HTTPConnection(urlsplit(server.process.url).netloc, timeout=60)

    def ask(
        method: str, path: str, query: dict[str, object], headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        target = path + (f"?{urlencode(query, doseq=True)}" if query else "")
        clean = {name: value.replace("\r", "").replace("\n", "") for name, value in headers.items()}
        try:
            connection.request(method, target, body, clean)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.InvalidURL, http.client.HTTPException):
            connection.close()
            return 0, b""

    return ask


def test_no_request_makes_a_server_with_functions_fail(server: Served) -> None:
    ask, fuzzer = asker(server), Fuzzer(20261121)
    operations = sorted(MODEL.operations)
    seen: dict[int, int] = {}
    for count in range(REQUESTS):
        if count % 500 == 0 and ask("GET", "/2015-03-31/functions/f", {}, {}, b"")[0] == 404:
            server.create("f", SOURCE, Timeout=1)
        operation = fuzzer.random.choice(operations)
        method, path, query, headers, body = fuzzer.request(operation)
        status, answer = ask(method, path, query, headers, body)
        seen[status] = seen.get(status, 0) + 1
        assert status < 500 or status == 501, (operation, method, path, query, headers, body, status, answer)
    print(f"{REQUESTS} requests, answers by status: {dict(sorted(seen.items()))}")
    assert {200, 201, 204, 400, 404, 409, 501} <= set(seen)
    log = Path(server.process.log).read_text(errors="replace")
    assert "Traceback" not in log, log[-5000:]
    assert server.client.get_account_settings()["AccountUsage"]["FunctionCount"] >= 0
