"""GET /2018-06-01/runtime/restore/next: init is done; the process may be frozen here. A clone reads the answer."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.http import NOT_FOUND, Request


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Only functions with SnapStart have this route."""
    if not conversation.snap_start:
        return NOT_FOUND
    if not conversation.may(State.STARTED):
        return conversation.refuse("RestoreReady")
    assert conversation.observer is not None
    conversation.waiter = waiter
    conversation.state = State.RESTORE_READY
    conversation.observer.restore_ready()
    return None
