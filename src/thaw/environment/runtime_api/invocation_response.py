"""POST /2018-06-01/runtime/invocation/{id}/response: what the function returned, whole or as a stream.

A stream is a body in chunks with the header `Lambda-Runtime-Function-Response-Mode: streaming`. A function that fails
on its way says so in trailers: `Lambda-Runtime-Function-Error-Type`, and `-Error-Body` in base64 (Lambda's developer
guide, "Building a custom runtime: response streaming").
"""

from __future__ import annotations

import base64
import binascii

from thaw.environment.failure import document
from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.error_type import known_type
from thaw.environment.runtime_api.http import ACCEPTED, Request, Sink, refusal
from thaw.environment.streaming import Source

_ERROR_TYPE = b"lambda-runtime-function-error-type"
_ERROR_BODY = b"lambda-runtime-function-error-body"


def begin(conversation: Conversation, request: Request, source: Source) -> Sink | None:
    """Where the pieces of a streamed response go; None where it is collected instead."""
    streamed = request.header(b"lambda-runtime-function-response-mode").lower() == "streaming"
    if not streamed or request.method != b"POST" or not conversation.may(State.RUNNING):
        return None
    assert conversation.observer is not None
    return conversation.observer.response_begins(request.header(b"content-type"), source)


def cut_short(conversation: Conversation) -> None:
    """The connection closed before the end of a streamed response."""
    if conversation.may(State.RUNNING):
        assert conversation.observer is not None
        assert conversation.invocation is not None
        conversation.state = State.RESPONDED
        kind, text = "Runtime.TruncatedResponse", "Response stream ended before it was complete"
        conversation.observer.runtime_failed(kind, document(kind, text, conversation.invocation.request_id))


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """A response over the limit becomes Function.ResponseSizeTooLarge for the caller and 413 for the runtime."""
    if not conversation.may(State.RUNNING):
        return conversation.refuse("InvocationResponse")
    assert conversation.observer is not None
    conversation.state = State.RESPONDED
    if request.too_large:
        conversation.observer.runtime_failed("Function.ResponseSizeTooLarge", _oversize(request.limit))
        text = f"Exceeded maximum allowed payload size ({request.limit} bytes)."
        return refusal("413 Payload Too Large", "RequestEntityTooLarge", text)
    if _ERROR_TYPE in request.trailers:
        kind = known_type(request.trailers[_ERROR_TYPE].decode("latin-1"), "Function.Unknown")
        conversation.observer.runtime_failed(kind, _error_body(request))
    else:
        conversation.observer.runtime_responded(bytes(request.body))
    return ACCEPTED


def _oversize(limit: int) -> bytes:
    text = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
    return f'{{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"{text}"}}'.encode()


def _error_body(request: Request) -> bytes:
    given = request.trailers.get(_ERROR_BODY, b"")
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        return given  # what a runtime sent otherwise is still better than nothing
