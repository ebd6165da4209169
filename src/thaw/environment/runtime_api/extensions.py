"""Lambda Extensions (2020-01-01): who has registered, for what, and where each stands.

An external extension is a process of its own, started from /opt/extensions before the runtime; an internal one
registers from the runtime's process, during Init. Init, and every invocation, ends when the runtime and all extensions
that took part have asked for what comes next. Error types and texts are those of Lambda's own supervisor (the Runtime
Interface Emulator's handlers of register, event/next, init/error and exit/error).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from thaw.environment.invocation import Invocation
from thaw.environment.runtime_api.http import answer, refusal
from thaw.environment.runtime_api.waiter import Waiter

LIMIT = 10
"""Extensions of one function, internal ones included (Lambda quotas)."""
INVOKE, SHUTDOWN = "INVOKE", "SHUTDOWN"
NEXT_PATH = "/2020-01-01/extension/event/next"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenExtension:
    """What a clone's Runtime API must know of an extension that was frozen in event/next. `number` is its process in
    the sandbox, 0 for an internal one."""

    name: str
    identifier: str
    events: Sequence[str]
    number: int = 0


@dataclass(slots=True)
class Extension:
    """One extension. `number` is its process's in the sandbox; 0 for an internal one."""

    name: str
    identifier: str
    external: bool
    number: int = 0
    events: tuple[str, ...] = ()
    state: str = "Started"
    error_type: str = ""
    waiter: Waiter | None = None
    owed: bytes = b""
    """An event that it gets when it asks."""

    @property
    def idle(self) -> bool:
        """Whether nobody has to wait for it: it has asked for an event, and was given none."""
        return self.state == "Ready" and not self.owed

    def give(self, event: bytes) -> None:
        """Hand over an event, at once if it waits for one."""
        if self.waiter is None:
            self.owed = event
            return
        waiter, self.waiter = self.waiter, None
        self.state = "Running"
        waiter.send(event)

    def ask(self, waiter: Waiter) -> None:
        """It has asked for the next event."""
        self.waiter, self.state = waiter, "Ready"
        if self.owed:
            event, self.owed = self.owed, b""
            self.give(event)

    @property
    def request(self) -> bytes:
        """The request with which it waits, for a clone to make again."""
        head = f"GET {NEXT_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nLambda-Extension-Identifier: {self.identifier}\r\n\r\n"
        return head.encode()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an extension is told of the function."""

    function_name: str
    version: str
    handler: str
    account_id: str


class Extensions:
    """All extensions of one environment."""

    __slots__ = ("_by_identifier", "metadata", "open")

    def __init__(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self.open = True
        """Whether more may register: until the end of Init."""
        self._by_identifier: dict[str, Extension] = {}

    def __bool__(self) -> bool:
        return bool(self._by_identifier)

    def __iter__(self) -> Iterator[Extension]:
        return iter(self._by_identifier.values())

    def expect(self, name: str, number: int = 0) -> Extension:
        """An external extension has been started under this name."""
        return self._add(name, external=True, number=number)

    def recall(self, frozen: Iterable[FrozenExtension]) -> None:
        """A clone's extensions: they ask for their event once more, with the identifiers that they have."""
        self.open = False
        for each in frozen:
            known = Extension(each.name, each.identifier, bool(each.number), each.number, tuple(each.events), "Ready")
            self._by_identifier[each.identifier] = known

    def _add(self, name: str, *, external: bool, number: int = 0) -> Extension:
        extension = Extension(name, str(uuid.uuid4()), external, number)
        self._by_identifier[extension.identifier] = extension
        return extension

    def register(self, name: str, events: Sequence[str]) -> Extension | bytes:
        """An extension says what it wants to be told of; the refusal where it may not."""
        known = next((each for each in self._by_identifier.values() if each.name == name), None)
        if known is not None and not known.external:
            return forbidden("InvalidExtensionState", "Extension with this name already registered")
        allowed = (INVOKE, SHUTDOWN) if known is not None else (INVOKE,)
        for event in events:
            if event not in allowed:
                kind = "external" if known is not None else "internal"
                return forbidden("InvalidEventType", f"{event}: event is not supported for {kind} extensions")
        if known is None:
            if not self.open:
                return forbidden("RegistrationClosed", "Extension registration closed already")
            if len(self._by_identifier) >= LIMIT:
                return forbidden("TooManyExtensions", f"Extension limit ({LIMIT}) reached")
            known = self._add(name, external=False)
        if known.state != "Started":
            return not_allowed(known, "Registered")
        known.events, known.state = tuple(events), "Registered"
        return known

    def find(self, identifier: str) -> Extension | bytes:
        """Whose identifier this is; the refusal where it is nobody's."""
        if not identifier:
            return forbidden("MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        try:
            uuid.UUID(identifier)
        except ValueError:
            return forbidden("InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
        known = self._by_identifier.get(identifier)
        return known or forbidden("UnknownExtensionIdentifier", f"Unknown extension {identifier}")

    @property
    def registered(self) -> bool:
        """Whether all external ones have registered, so that the runtime may start."""
        return all(each.state != "Started" for each in self._by_identifier.values())

    @property
    def idle(self) -> bool:
        """Whether all of them wait for what comes next."""
        return all(each.idle for each in self._by_identifier.values())

    def invoke(self, invocation: Invocation, deadline_ms: int) -> None:
        """Tell those that want to know of an invocation."""
        for each in self._by_identifier.values():
            if INVOKE in each.events:
                each.give(_invoke_event(invocation, deadline_ms))

    def shut_down(self, reason: str, deadline_ms: int) -> None:
        """Tell those that want to know of the end: "spindown", "timeout" or "failure"."""
        document = {"eventType": SHUTDOWN, "deadlineMs": deadline_ms, "shutdownReason": reason}
        for each in self._by_identifier.values():
            if SHUTDOWN in each.events:
                each.give(_event(document))

    def forget(self, waiter: Waiter) -> None:
        """A connection has closed."""
        for each in self._by_identifier.values():
            if each.waiter is waiter:
                each.waiter = None

    def external(self) -> list[Extension]:
        """Those that are processes of their own."""
        return [each for each in self._by_identifier.values() if each.external]

    def frozen(self) -> list[FrozenExtension]:
        """What a clone has to know."""
        return [
            FrozenExtension(name=each.name, identifier=each.identifier, events=each.events, number=each.number)
            for each in self._by_identifier.values()
        ]

    def waiting_requests(self) -> dict[str, str]:
        """By the local port of the connection: the requests in which extensions wait."""
        waiting = [each for each in self._by_identifier.values() if each.waiter is not None]
        return {str(each.waiter.port): each.request.decode() for each in waiting if each.waiter is not None}


def _invoke_event(invocation: Invocation, deadline_ms: int) -> bytes:
    document: dict[str, object] = {
        "eventType": INVOKE,
        "deadlineMs": deadline_ms,
        "requestId": invocation.request_id,
        "invokedFunctionArn": invocation.invoked_arn,
    }
    if invocation.trace_id:
        document["tracing"] = {"type": "X-Amzn-Trace-Id", "value": invocation.trace_id}
    return _event(document)


def _event(document: dict[str, object]) -> bytes:
    head = ("Lambda-Extension-Event-Identifier", str(uuid.uuid4()))
    return answer("200 OK", json.dumps(document, separators=(",", ":")).encode(), headers=[head])


def forbidden(kind: str, message: str) -> bytes:
    """403 with one of the error types Extension.*"""
    return refusal("403 Forbidden", f"Extension.{kind}", message)


def not_allowed(extension: Extension, wanted: str) -> bytes:
    """The answer to what an extension's state does not allow."""
    return forbidden(
        "InvalidExtensionState",
        f"State transition from {extension.state} to {wanted} failed for extension {extension.name}. "
        "Error: State transition is not allowed",
    )
