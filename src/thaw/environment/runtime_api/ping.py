"""GET /2018-06-01/ping: is anybody there."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, Waiter
from thaw.environment.runtime_api.http import Request, answer

_PONG = answer("200 OK", b"pong", "text/plain; charset=utf-8")


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Always answered, in every state."""
    return _PONG
