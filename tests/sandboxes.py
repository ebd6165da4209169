"""A real sandbox for tests: a pool, and a small runtime client in Python that needs nothing but an interpreter."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from thaw.environment.execution import Environment, OnAnswer
from thaw.environment.invocation import Invocation, InvocationResult
from thaw.environment.pool import SandboxPool
from thaw.environment.settings import FunctionSettings, WorkerSettings
from thaw.observe.log_stream import LogStream

# Speaks the Runtime API as the AWS client does: one module, one handler, errors posted with their type.
CLIENT = """
import http.client, importlib, json, os, sys, traceback
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
BASE = "/2018-06-01/runtime/"

def call(method, path, body=None, headers={}):
    api.request(method, BASE + path, body, headers)
    answer = api.getresponse()
    return answer.status, answer.headers, answer.read()

def problem(error, kind):
    body = json.dumps({"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": []})
    return body, {"Lambda-Runtime-Function-Error-Type": kind}

module, name = os.environ["_HANDLER"].rsplit(".", 1)
try:
    handler = getattr(importlib.import_module(module), name)
except Exception as error:
    call("POST", "init/error", *problem(error, "Runtime.ImportModuleError"))
    sys.exit(1)
if os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start":
    call("GET", "restore/next")
while True:
    _, headers, event = call("GET", "invocation/next")
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        result = json.dumps(handler(json.loads(event), dict(headers)))
    except Exception as error:
        traceback.print_exc()
        call("POST", f"invocation/{request}/error", *problem(error, "Function.Unknown"))
        continue
    sys.stdout.flush()
    call("POST", f"invocation/{request}/response", result)
"""


@dataclass(frozen=True)
class PlainMount:
    source: Path
    target: str


@dataclass(frozen=True)
class PlainRuntime:
    """The interpreter that runs the tests, as a runtime."""

    mounts: tuple[PlainMount, ...]
    name: str = "python3.11"
    version: str = "3.11.7"
    argv: tuple[str, ...] = ("/var/lang/bin/python3", "-u", "/var/runtime/client.py")
    variables: Mapping[str, str] = field(default_factory=dict)
    version_arn: str = "arn:aws:lambda:us-east-1::runtime:0123"
    label: str = "python:3.11.v7"


class Workshop:
    """Makes environments in one pool; everything it made is closed by `close`."""

    def __init__(self, pool: SandboxPool, folder: Path) -> None:
        self.pool = pool
        self.folder = folder
        self.environments: list[Environment] = []

    def settings(self, code: str, **changes: Any) -> FunctionSettings:
        """Settings of a function whose module `app` is `code`, with handler `app.handler`."""
        task = self.folder / uuid4().hex
        task.mkdir()
        (task / "app.py").write_text(code)
        runtime = self.folder / "runtime"
        runtime.mkdir(exist_ok=True)
        (runtime / "client.py").write_text(CLIENT)
        mounts = (PlainMount(Path(sys.base_prefix), "/var/lang"), PlainMount(runtime, "/var/runtime"))
        known: dict[str, Any] = {
            "function_name": "f", "version": "1", "function_arn": "arn:aws:lambda:us-east-1:000000000000:function:f:1",
            "handler": "app.handler", "timeout_s": 10.0, "memory_mib": 256, "ephemeral_mib": 64, "variables": {},
            "region": "us-east-1", "account_id": "000000000000", "initialization_type": "on-demand", "task": task,
            "layers": None, "runtime": PlainRuntime(mounts), "log_group": "/aws/lambda/f",
        }  # fmt: skip
        return FunctionSettings(**{**known, **changes})

    async def launched(self, code: str, **changes: Any) -> Environment:
        """An environment whose Init has begun."""
        settings = self.settings(code, **changes)
        log = LogStream(self.folder / "logs", settings.log_group, settings.version)
        environment = await Environment.launch(await self.pool.take(), settings, log)
        self.environments.append(environment)
        return environment

    async def ready(self, code: str, **changes: Any) -> Environment:
        """An environment that waits for its first invocation."""
        environment = await self.launched(code, **changes)
        await environment.initialised(20.0)
        return environment

    async def close(self) -> None:
        for environment in self.environments:
            await environment.close()


@asynccontextmanager
async def workshop(folder: Path, **worker: Any) -> AsyncIterator[Workshop]:
    """A running pool with room for environments; leaves nothing."""
    pool = SandboxPool(WorkerSettings(**{"pool_size": 1, **worker}))
    await pool.start()
    made = Workshop(pool, folder)
    try:
        yield made
    finally:
        await made.close()
        await pool.close()


async def call(environment: Environment, event: object = None, on_answer: OnAnswer | None = None) -> InvocationResult:
    """One invocation with a request id of its own."""
    invocation = Invocation(
        request_id=str(uuid4()), payload=json.dumps(event).encode(), invoked_arn=environment.settings.function_arn
    )
    return await environment.invoke(invocation, on_answer=on_answer)


def log_lines(environment: Environment) -> list[str]:
    """The environment's log file without the times."""
    path = environment.log.path
    assert path is not None
    return [line.partition(" ")[2] for line in path.read_text().splitlines()]


def running(pid: int) -> bool:
    """Whether a process of that number exists (a zombie does not count)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_root() -> bool:
    """Whether sandboxes can be made here at all."""
    return os.geteuid() == 0
