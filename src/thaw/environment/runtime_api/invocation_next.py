"""GET /2018-06-01/runtime/invocation/next: the runtime is free; answered when there is an invocation."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.http import Request


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Asking again while an invocation runs gives the same one once more, as on Lambda."""
    if conversation.may(State.RUNNING):
        conversation.hand_over(waiter)
        return None
    if not conversation.may(State.STARTED, State.RESTORE_READY, State.RESTORING, State.READY, State.RESPONDED):
        return conversation.refuse("Ready")
    conversation.waiter = waiter
    if conversation.state is State.READY and conversation.invocation is not None:
        conversation.dispatch(conversation.invocation, conversation.deadline_ms)  # it came while nobody asked
        return None
    conversation.state = State.READY
    conversation.invocation = None
    assert conversation.observer is not None
    conversation.observer.runtime_ready()
    return None
