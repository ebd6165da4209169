"""POST /2020-01-01/extension/register: an extension says which events it wants."""

from __future__ import annotations

import json

from thaw.environment.runtime_api.conversation import Conversation, Waiter
from thaw.environment.runtime_api.extensions import forbidden
from thaw.environment.runtime_api.http import Request, answer, refusal


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Answered with the function's name, version and handler, and the identifier for all further requests."""
    extensions, observer = conversation.extensions, conversation.observer
    if extensions is None or observer is None:
        return conversation.refuse("Registered")
    name = request.header(b"lambda-extension-name")
    if not name:
        return forbidden("InvalidExtensionName", "Empty extension name")
    events = _events(bytes(request.body))
    if isinstance(events, str):
        return refusal("403 Forbidden", "InvalidRequestFormat", events)
    registered = extensions.register(name, events)
    if isinstance(registered, bytes):
        return registered
    metadata = extensions.metadata
    document = {
        "functionName": metadata.function_name,
        "functionVersion": metadata.version,
        "handler": metadata.handler,
    }
    features = [each.strip() for each in request.header(b"lambda-extension-accept-feature").split(",")]
    if "accountId" in features:
        document["accountId"] = metadata.account_id
    identifier = ("Lambda-Extension-Identifier", registered.identifier)
    waiter.send(answer("200 OK", json.dumps(document).encode(), headers=[identifier]))
    observer.extension_registered()
    return None


def _events(body: bytes) -> list[str] | str:
    """The events that are asked for, or what is wrong with the document."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return "The request is not a JSON document"
    if not isinstance(document, dict):
        return "The request is not a JSON object"
    if document.get("configurationKeys"):
        return "configurationKeys are deprecated; use environment variables instead"
    events = document.get("events") or []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        return "events is not a list of strings"
    return list(dict.fromkeys(events))
