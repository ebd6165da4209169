"""POST /2018-06-01/runtime/invocation/{id}/response: what the function returned."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.http import ACCEPTED, BODY_LIMIT, Request, refusal

_TOO_LARGE = refusal(
    "413 Payload Too Large", "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({BODY_LIMIT} bytes)."
)
_OVERSIZE = (
    f'{{"errorType":"Function.ResponseSizeTooLarge","errorMessage":'
    f'"Response payload size exceeded maximum allowed payload size ({BODY_LIMIT} bytes)."}}'
).encode()


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """A response over 6 MiB becomes Function.ResponseSizeTooLarge for the caller and 413 for the runtime."""
    if not conversation.may(State.RUNNING):
        return conversation.refuse("InvocationResponse")
    assert conversation.observer is not None
    conversation.state = State.RESPONDED
    if request.too_large:
        conversation.observer.runtime_failed("Function.ResponseSizeTooLarge", _OVERSIZE)
        return _TOO_LARGE
    conversation.observer.runtime_responded(bytes(request.body))
    return ACCEPTED
