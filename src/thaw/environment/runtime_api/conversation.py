"""Where a runtime stands in its conversation with the platform, and what it may say next.

The states and their transitions are those of Lambda's own supervisor (the Runtime Interface Emulator's core states);
whatever is not listed is answered 403 InvalidStateTransition.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from thaw.environment.invocation import Invocation
from thaw.environment.runtime_api.extensions import Extensions
from thaw.environment.runtime_api.http import Sink, refusal
from thaw.environment.runtime_api.waiter import Waiter as Waiter
from thaw.environment.settings import Credentials
from thaw.environment.streaming import Source


class State(Enum):
    """What the runtime did last."""

    STARTED = "Started"
    INIT_ERROR = "InitError"
    RESTORE_READY = "RestoreReady"
    RESTORING = "Restoring"
    RESTORE_ERROR = "RestoreError"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDED = "ResponseSent"


class Observer(Protocol):
    """Who is told what the runtime said; called from the event loop, may not block."""

    def runtime_ready(self) -> None: ...

    def restore_ready(self) -> None: ...

    def response_begins(self, content_type: str, source: Source) -> Sink | None: ...

    def runtime_responded(self, payload: bytes) -> None: ...

    def runtime_failed(self, error_type: str, payload: bytes) -> None: ...

    def init_failed(self, error_type: str, payload: bytes) -> None: ...

    def restore_failed(self, error_type: str, payload: bytes) -> None: ...

    def extension_registered(self) -> None: ...

    def extension_waits(self) -> None: ...

    def extension_failed(self, kind: str, name: str, error_type: str) -> None: ...


class Conversation:
    """One runtime's side of the Runtime API. `snap_start` mounts the routes that only such functions have."""

    __slots__ = (
        "credentials", "deadline_ms", "extensions", "invocation", "observer", "report", "snap_start", "state", "token",
        "waiter",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = State.STARTED
        self.observer: Observer | None = None
        self.snap_start = False
        self.credentials = Credentials()
        self.token = ""
        self.invocation: Invocation | None = None
        self.deadline_ms = 0
        self.waiter: Waiter | None = None
        self.report = b""
        self.extensions: Extensions | None = None

    def may(self, *states: State) -> bool:
        """Whether the runtime is in one of `states`, and somebody listens."""
        return self.state in states and self.observer is not None

    def dispatch(self, invocation: Invocation, deadline_ms: int) -> None:
        """Give the runtime an invocation: at once if it waits for one, else when it asks. `deadline_ms` is in
        milliseconds since the epoch."""
        self.invocation, self.deadline_ms = invocation, deadline_ms
        if self.waiter is not None:
            waiter, self.waiter = self.waiter, None
            self.hand_over(waiter)

    def hand_over(self, waiter: Waiter) -> None:
        """Answer a waiting invocation/next with the invocation at hand."""
        assert self.invocation is not None
        self.state = State.RUNNING
        waiter.send(_next_head(self.invocation, self.deadline_ms) + self.invocation.payload)

    def forget(self, waiter: Waiter) -> None:
        """A connection has closed: it waits no longer."""
        if self.waiter is waiter:
            self.waiter = None
        elif self.extensions is not None:
            self.extensions.forget(waiter)

    def refuse(self, wanted: str) -> bytes:
        """The answer to a request that the state does not allow."""
        message = f"Transition from {self.state.value} to {wanted} is not allowed."
        return refusal("403 Forbidden", "InvalidStateTransition", message)


def _next_head(invocation: Invocation, deadline_ms: int) -> bytes:
    """The head of invocation/next's answer. Values that could break a header are the caller's to keep out."""
    lines = [
        "HTTP/1.1 200 OK",
        "Content-Type: application/json",
        f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}",
        f"Lambda-Runtime-Deadline-Ms: {deadline_ms}",
        f"Lambda-Runtime-Invoked-Function-Arn: {invocation.invoked_arn}",
        f"Lambda-Runtime-Invocation-Id: {invocation.request_id}",
    ]
    optional = (
        ("Trace-Id", invocation.trace_id),
        ("Client-Context", invocation.client_context),
        ("Cognito-Identity", invocation.cognito_identity),
    )
    lines += [f"Lambda-Runtime-{name}: {_one_line(value)}" for name, value in optional if value]
    return "\r\n".join([*lines, f"Content-Length: {len(invocation.payload)}", "", ""]).encode()


def _one_line(value: str) -> str:
    """JSON may be spread over lines; a header may not."""
    return value.replace("\r", " ").replace("\n", " ")
