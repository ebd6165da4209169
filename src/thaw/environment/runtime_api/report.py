"""POST /thaw/v1/report: what the function's own language knows of its process, once, before the snapshot.

This route is Thaw's own, and only functions with SnapStart have it. The document comes from the function's process,
so it is kept as bytes here and read with care later (`thaw.publish.report`).
"""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, State, Waiter
from thaw.environment.runtime_api.http import ACCEPTED, NOT_FOUND, Request, refusal

PATH = "/thaw/v1/report"
LIMIT = 200_000
_TOO_LARGE = refusal("413 Payload Too Large", "RequestEntityTooLarge", f"A report has at most {LIMIT} bytes.")


def serve(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Allowed while the function starts; a second report replaces the first."""
    if not conversation.snap_start:
        return NOT_FOUND
    if not conversation.may(State.STARTED):
        return conversation.refuse("Reported")
    if request.body_size > LIMIT:
        return _TOO_LARGE
    conversation.report = bytes(request.body)
    return ACCEPTED
