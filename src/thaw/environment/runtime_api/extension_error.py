"""POST /2020-01-01/extension/init/error and .../exit/error: an extension cannot go on, and with it the environment."""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, Waiter
from thaw.environment.runtime_api.extensions import forbidden, not_allowed
from thaw.environment.runtime_api.http import ACCEPTED, Request

_TYPE = "Lambda-Extension-Function-Error-Type"
_ALLOWED = {"InitError": ("Registered",), "ExitError": ("Registered", "Ready", "Running")}


def serve_init(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Allowed between register and the first event/next."""
    return _serve(conversation, request, "InitError")


def serve_exit(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Allowed at any time after register; the extension is expected to end."""
    return _serve(conversation, request, "ExitError")


def _serve(conversation: Conversation, request: Request, kind: str) -> bytes:
    extensions, observer = conversation.extensions, conversation.observer
    if extensions is None or observer is None:
        return conversation.refuse(kind)
    found = extensions.find(request.header(b"lambda-extension-identifier"))
    if isinstance(found, bytes):
        return found
    given = request.header(_TYPE.lower().encode())
    if not given:
        return forbidden("MissingHeader", f"{_TYPE} not found")
    if found.state not in _ALLOWED[kind]:
        return not_allowed(found, kind)
    found.state, found.error_type = kind, given
    observer.extension_failed(f"Extension.{kind}", found.name, given)
    return ACCEPTED
