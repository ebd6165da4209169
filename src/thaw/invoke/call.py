"""What one invocation carries in and out, between the AWS front and the part that finds an environment for it."""

from __future__ import annotations

from dataclasses import dataclass

from thaw.catalog.configuration import Configuration
from thaw.environment.streaming import ResponseStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One synchronous invocation.

    `configuration` is the version (or $LATEST) that a qualifier was resolved to, `executed_version` its number as
    the header X-Amz-Executed-Version shows it, `invoked_arn` the ARN as the caller qualified it (the handler's
    context.invoked_function_arn). `payload` is a JSON document, at most 6 MiB. `client_context` is the base64 of the
    header X-Amz-Client-Context. `trace_id` is the value of X-Amzn-Trace-Id. A response that the function streams goes
    to `stream`, where there is one; it ends before the call does. `wants_log` waits for the end of the log, which is
    written when the function's extensions are done, too.
    """

    configuration: Configuration
    executed_version: str
    invoked_arn: str
    payload: bytes
    request_id: str
    client_context: str | None = None
    trace_id: str | None = None
    stream: ResponseStream | None = None
    wants_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the function answered.

    `function_error` is "Unhandled" where the call ended in an error of the function (then `payload` is the error's
    JSON document), else None. `log_tail` is the raw end of the call's log, at most 4096 bytes.
    """

    payload: bytes
    executed_version: str
    function_error: str | None = None
    log_tail: bytes = b""
