"""One invocation on its way in, and its outcome on the way out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What the runtime receives from invocation/next.

    `payload` is the event as it came, at most 6 MiB. `client_context` is JSON, already decoded from
    base64. `trace_id` is the X-Ray header, or None when the call is not traced.
    """

    request_id: str
    payload: bytes
    invoked_arn: str
    client_context: str | None = None
    cognito_identity: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationResult:
    """How an invocation ended.

    `error_type` is None for success, else Lambda's ("Function.Unknown", "Sandbox.Timedout", ...), and
    `payload` is then the error document. `function_error` is the value of X-Amz-Function-Error.
    `usable` says whether the environment can take another invocation. `log_tail` holds the last
    4096 bytes of this invocation's log. Durations are in milliseconds;
    `init_ms` or `restore_ms` is there for the first invocation of an environment, and `extensions_ms`, how long
    extensions worked on when the runtime was done, where there are any.
    """

    request_id: str
    payload: bytes
    error_type: str | None
    duration_ms: float
    billed_ms: int
    max_memory_mib: int
    log_tail: bytes
    usable: bool
    init_ms: float | None = None
    restore_ms: float | None = None
    extensions_ms: float | None = None

    @property
    def function_error(self) -> str | None:
        """ "Unhandled" for every error, as Lambda answers today; None for success."""
        return None if self.error_type is None else "Unhandled"
