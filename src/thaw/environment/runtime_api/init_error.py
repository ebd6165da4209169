"""POST /2018-06-01/runtime/init/error: the Init phase failed."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.error_type import error_type
from thaw.environment.runtime_api.http import ACCEPTED, Request


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Allowed while the function starts; while it is being restored it counts as a restore error."""
    if not conversation.may(State.STARTED, State.RESTORING):
        return conversation.refuse("InitError")
    assert conversation.observer is not None
    kind, document = error_type(request, "Runtime.Unknown"), bytes(request.body)
    if conversation.state is State.RESTORING:
        conversation.state = State.RESTORE_ERROR
        conversation.observer.restore_failed(kind, document)
    else:
        conversation.state = State.INIT_ERROR
        conversation.observer.init_failed(kind, document)
    return ACCEPTED
