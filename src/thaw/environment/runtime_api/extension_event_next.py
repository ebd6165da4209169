"""GET /2020-01-01/extension/event/next: an extension is done with the last event; answered when there is another."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, Waiter
from thaw.environment.runtime_api.extensions import not_allowed
from thaw.environment.runtime_api.http import Request


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Only who has registered may ask."""
    extensions, observer = conversation.extensions, conversation.observer
    if extensions is None or observer is None:
        return conversation.refuse("Ready")
    found = extensions.find(request.header(b"lambda-extension-identifier"))
    if isinstance(found, bytes):
        return found
    if found.state not in ("Registered", "Ready", "Running"):
        return not_allowed(found, "Ready")
    found.ask(waiter)
    observer.extension_waits()
    return None
