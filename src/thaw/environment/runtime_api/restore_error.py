"""POST /2018-06-01/runtime/restore/error: an after-restore hook failed."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.error_type import error_type
from thaw.environment.runtime_api.http import ACCEPTED, NOT_FOUND, Request


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Only functions with SnapStart have this route, and only while they are being restored."""
    if not conversation.snap_start:
        return NOT_FOUND
    if not conversation.may(State.RESTORING):
        return conversation.refuse("RestoreError")
    assert conversation.observer is not None
    conversation.state = State.RESTORE_ERROR
    conversation.observer.restore_failed(error_type(request, "Runtime.Unknown"), bytes(request.body))
    return ACCEPTED
