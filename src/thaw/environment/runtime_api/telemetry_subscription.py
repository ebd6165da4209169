"""PUT /2022-07-01/telemetry and PUT /2020-08-15/logs: extensions cannot subscribe to logs here, and are told so.

The answer is that of Lambda's own emulator: 202, so that extensions go on, with an error document.
"""

from __future__ import annotations

from thaw.environment.runtime_api.conversation import Conversation, Waiter
from thaw.environment.runtime_api.http import Request, refusal


def serve_telemetry(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Always the same."""
    return refusal("202 Accepted", "Telemetry.NotSupported", "Telemetry API is not supported")


def serve_logs(conversation: Conversation, request: Request, waiter: Waiter) -> bytes | None:
    """Always the same."""
    return refusal("202 Accepted", "Logs.NotSupported", "Logs API is not supported")
