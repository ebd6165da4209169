"""Stand-ins below the AWS front: they satisfy its ports, and let a test decide when the background work ends."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from thaw.api.application import Application, create_application
from thaw.api.http import Message
from thaw.catalog.attachments import ProvisionedConcurrency
from thaw.catalog.catalog import Catalog
from thaw.catalog.configuration import Configuration
from thaw.errors import CodePackageError, ServiceError
from thaw.invoke.call import Answer, Call
from thaw.observe.log_reader import LogReader
from thaw.observe.metrics import Metrics

REGION = "us-east-1"
ACCOUNT = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lambda-role"
HANDLER = b"def lambda_handler(event, context):\n    return event\n"


@dataclass(frozen=True)
class FrontSettings:
    region: str = REGION
    account_id: str = ACCOUNT
    credentials_file: Path | None = None
    s3_endpoint: str | None = None
    aws_parity: bool = False


def package(source: bytes = HANDLER) -> bytes:
    """A deployment package with one module."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("lambda_function.py"), source)
    return buffer.getvalue()


@dataclass
class Background:
    """Publishing that settles at once, or (with `held`) when `settle` is called."""

    catalog: Catalog
    held: bool = False
    fails: bool = False
    packages: dict[str, bytes] = field(default_factory=dict)
    deletions: list[tuple[str, str]] = field(default_factory=list)
    waiting: list[tuple[Configuration, dict[str, Any]]] = field(default_factory=list)
    provisioned: list[tuple[str, str]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def function_created(self, configuration: Configuration, code: bytes) -> None:
        await self._take(configuration, code)
        await self._later(configuration, {"state": "Active"})

    async def code_updated(self, configuration: Configuration, code: bytes) -> None:
        await self._take(configuration, code)
        await self._later(configuration, {"last_update_status": "Successful"})

    async def configuration_updated(self, configuration: Configuration) -> None:
        await self._later(configuration, {"last_update_status": "Successful"})

    async def version_published(self, configuration: Configuration) -> None:
        ready = {"state": "Active", "optimization_status": "On", "snapshot_key": "snapshot"}
        failed = {
            "state": "Failed",
            "state_reason": "An error occurred during function initialization.",
            "state_reason_code": "FunctionError",
        }
        await self._later(configuration, failed if self.fails else ready)

    async def awaken(self, configuration: Configuration) -> None:
        if configuration.state == "Inactive":
            pending = {"state": "Pending", "state_reason_code": "Restoring"}
            name, version = configuration.function_name, configuration.version
            await self.version_published(await self.catalog.set_state(name, version, **pending))

    async def deleted(self, configurations: Sequence[Configuration]) -> None:
        self.deletions += [(item.function_name, item.version) for item in configurations]

    async def code(self, configuration: Configuration) -> bytes:
        return self.packages[configuration.code_key]

    async def store_layer(self, content: bytes) -> None:
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise CodePackageError("The layer is not a zip file: build it again.")
        self.packages[hashlib.sha256(content).hexdigest()] = content

    async def layer_content(self, key: str) -> bytes:
        return self.packages[key]

    async def layers_dropped(self, keys: Sequence[str]) -> None:
        for key in set(keys) - await self.catalog.layers.used_content(keys):
            del self.packages[key]

    async def provisioning_changed(self, name: str, qualifier: str) -> None:
        self.provisioned.append((name, qualifier))
        config = await self.catalog.attachments.get(ProvisionedConcurrency, name, qualifier)
        if config is not None and not self.held:
            ready = {"allocated": config.requested, "available": config.requested, "status": "READY"}
            await self.catalog.concurrency.report(name, qualifier, **ready)

    async def settle(self) -> None:
        """Ends all background work that was held."""
        waiting, self.waiting = self.waiting, []
        for configuration, changes in waiting:
            await self.catalog.set_state(
                configuration.function_name, configuration.version, function_id=configuration.function_id, **changes
            )

    async def _take(self, configuration: Configuration, code: bytes) -> None:
        if not zipfile.is_zipfile(io.BytesIO(code)):
            raise CodePackageError("The deployment package is not a zip file: build it again.")
        self.packages[configuration.code_key] = code

    async def _later(self, configuration: Configuration, changes: dict[str, Any]) -> None:
        self.waiting.append((configuration, changes))
        if not self.held:
            self.tasks.append(asyncio.create_task(self.settle()))


@dataclass
class Echo:
    """Invoking that answers `returns`, or the event.

    An event {"raise": text} is an error of the function, {"refuse": code} one of the service.
    """

    calls: list[Call] = field(default_factory=list)
    queued: list[Call] = field(default_factory=list)
    returns: bytes | None = None

    async def enqueue(self, call: Call) -> None:
        self.queued.append(call)

    async def invoke(self, call: Call) -> Answer:
        self.calls.append(call)
        if self.returns is not None:
            return Answer(payload=self.returns, executed_version=call.executed_version)
        event = json.loads(call.payload)
        log = f"START RequestId: {call.request_id} Version: {call.executed_version}\n".encode() + b"x" * 5000
        if isinstance(event, dict) and "refuse" in event:
            raise ServiceError(event["refuse"], "Refused for the test.")
        if isinstance(event, dict) and "raise" in event:
            payload = json.dumps({"errorMessage": event["raise"], "errorType": "ValueError"}).encode()
            return Answer(payload=payload, executed_version=call.executed_version, function_error="Unhandled")
        return Answer(payload=call.payload, executed_version=call.executed_version, log_tail=log)


@dataclass
class Reply:
    """An HTTP answer as a test sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, error code and message."""
        document = self.json
        return self.status, self.headers["x-amzn-errortype"], document.get("message", document.get("Message"))


class Front:
    """The application with its stand-ins, called without a network."""

    def __init__(
        self, catalog: Catalog, settings: FrontSettings, telemetry: tuple[LogReader, Metrics] | None = None
    ) -> None:
        self.catalog = catalog
        self.background = Background(catalog)
        self.echo = Echo()
        logs, metrics = telemetry or (None, None)
        self.application: Application = create_application(
            settings, catalog, self.background, self.echo, layers=self.background, provisioning=self.background,
            logs=logs, metrics=metrics,
        )  # fmt: skip

    @classmethod
    async def open(cls, folder: Path, *, telemetry: tuple[LogReader, Metrics] | None = None, **settings: Any) -> Front:
        catalog = Catalog(folder / "catalog.db", region=REGION, account_id=ACCOUNT)
        await catalog.open()
        return cls(catalog, FrontSettings(**settings), telemetry)

    async def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        query: Mapping[str, Any] | str | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        body: bytes | Sequence[bytes] = b"",
    ) -> Reply:
        """One request; `document` is sent as JSON, `body` (perhaps in pieces) as it is."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        if document is not None:
            pieces = [json.dumps(document).encode()]
        given = list(headers.items()) if isinstance(headers, Mapping) else list(headers or ())
        if all(name != "host" for name, _ in given):
            given.insert(0, ("host", "thaw.test:3001"))
        scope = {
            "type": "http",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": (query if isinstance(query, str) else urlencode(query or {}, doseq=True)).encode(),
            "client": ("192.0.2.7", 1234),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
        }
        sent: list[Message] = []

        async def receive() -> Message:
            if not pieces:
                await asyncio.Event().wait()  # a client that stays
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        answered = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))

    async def settled(self) -> None:
        """Waits until the background has nothing left to do."""
        tasks, self.background.tasks = self.background.tasks, []
        await asyncio.gather(*tasks)

    async def function(self, name: str = "f", **settings: Any) -> Reply:
        """Creates a function and waits for it."""
        reply = await self.ask("POST", "/2015-03-31/functions", creation(name, **settings))
        assert reply.status == 201, reply.body
        await self.settled()
        return reply


def creation(name: str = "f", **settings: Any) -> dict[str, Any]:
    """A CreateFunction request."""
    return {
        "FunctionName": name,
        "Role": ROLE,
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
        "Code": {"ZipFile": base64.b64encode(package()).decode()},
        **settings,
    }


def path(name: str, rest: str = "") -> str:
    """The path of a function, or of something of it."""
    return f"/2015-03-31/functions/{quote(name, safe='')}{rest}"


@asynccontextmanager
async def front_with_alias(folder: Path) -> AsyncIterator[Front]:
    """A front that has the function f, its version 1, and the alias live to that."""
    opened = await Front.open(folder)
    await opened.function(Publish=True)
    await opened.ask("POST", path("f", "/aliases"), {"Name": "live", "FunctionVersion": "1"})
    yield opened
    await opened.settled()
    await opened.catalog.close()
