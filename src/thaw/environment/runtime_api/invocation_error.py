"""POST /2018-06-01/runtime/invocation/{id}/error: what the function raised."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.error_type import error_type
from thaw.environment.runtime_api.http import ACCEPTED, Request


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """The body, cut at 6 MiB, becomes the answer of the call."""
    if not conversation.may(State.RUNNING):
        return conversation.refuse("InvocationErrorResponse")
    assert conversation.observer is not None
    conversation.state = State.RESPONDED
    conversation.observer.runtime_failed(error_type(request, "Function.Unknown"), bytes(request.body))
    return ACCEPTED
