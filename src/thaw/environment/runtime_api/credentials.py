"""GET /2021-04-23/credentials: AWS credentials for functions with SnapStart, renewed with every restore."""

from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime, timedelta

from thaw.environment.runtime_api.conversation import Conversation, Waiter
from thaw.environment.runtime_api.http import NOT_FOUND, Request, answer, refusal

_UNKNOWN = refusal("404 Not Found", "InvalidToken", "The provided token is invalid.")


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """The caller shows the token of its environment, without "Bearer"; another one is unknown: 404."""
    if not conversation.snap_start:
        return NOT_FOUND
    shown = request.headers.get(b"authorization", b"")
    if not conversation.token or not hmac.compare_digest(shown, conversation.token.encode()):
        return _UNKNOWN
    held = conversation.credentials
    document = {
        "AccessKeyId": held.access_key_id,
        "SecretAccessKey": held.secret_access_key,
        "Token": held.session_token,
        "Expiration": f"{datetime.now(UTC) + timedelta(seconds=held.lifetime_s):%Y-%m-%dT%H:%M:%SZ}",
    }
    return answer("200 OK", json.dumps(document).encode())
