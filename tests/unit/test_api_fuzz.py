"""Thousands of requests, half sense and half nonsense, made from the models: never a crash, never a wrong 5xx.

`make soak` sends ten times as many, to a server with real functions (tests/performance/test_fuzz.py).
"""

import os

from clients.front import Front, creation
from clients.fuzzing import MODEL, Fuzzer, TelemetryFuzzer
from thaw.api.telemetry.telemetry import model
from thaw.observe.log_reader import LogReader
from thaw.observe.log_stream import LogStream
from thaw.observe.metrics import Metrics

REQUESTS = int(os.environ.get("THAW_FUZZ_REQUESTS", "4000"))


async def test_no_request_makes_the_server_fail(tmp_path):
    front = await Front.open(tmp_path)
    fuzzer = Fuzzer(20261121)
    implemented = sorted(front.application.implemented)
    operations = [*implemented * 4, *sorted(MODEL.operations)]
    seen = set()
    await front.function()
    for count in range(REQUESTS):
        if count % 100 == 0 and (await front.ask("GET", "/2015-03-31/functions/f")).status == 404:
            await front.ask("POST", "/2015-03-31/functions", creation(Publish=True))
            await front.settled()
        operation = fuzzer.random.choice(operations)
        method, path, query, headers, body = fuzzer.request(operation)
        reply = await front.ask(method, path, query=query, headers=headers, body=body)
        seen.add(reply.status)
        told = (operation, method, path, query, headers, body, reply)
        assert reply.status < 500 or reply.status == 501, told
        if reply.status >= 400:
            status, code, message = reply.error
            assert code, told
            assert message, told
            assert status != 501 or operation not in implemented, told
    assert {200, 201, 204, 400, 404, 409, 501} <= seen
    await front.settled()
    await front.catalog.close()


async def test_no_request_for_logs_or_metrics_makes_the_server_fail(tmp_path):
    logs, metrics = LogReader(tmp_path / "logs"), Metrics()
    LogStream(tmp_path / "logs", "/aws/lambda/f", "1").append([b"a line"])
    metrics.record("f", None, {"Invocations": 1.0, "Duration": 2.5})
    front = await Front.open(tmp_path, telemetry=(logs, metrics))
    front.application.stop()  # a live tail ends at once, instead of never
    fuzzer = TelemetryFuzzer(20261121)
    known = [
        (service, operation, model(service).operation_model(operation).input_shape)
        for service, operation in front.application.telemetry
    ]
    seen = set()
    for _ in range(REQUESTS // 4):
        method, path, query, headers, body = fuzzer.request(*fuzzer.random.choice(known))
        reply = await front.ask(method, path, query=query, headers=headers, body=body)
        seen.add(reply.status)
        assert reply.status in (200, 400), (headers, body, reply)
    assert seen == {200, 400}
    await front.catalog.close()
