"""Where the outcome of an asynchronous call goes: destinations and the dead-letter target, which are functions here.

The record that a destination receives is Lambda's ("Capturing records of Lambda asynchronous invocations"); the
dead-letter target receives the event itself.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from thaw.catalog.attachments import EventInvokeConfig
from thaw.catalog.configuration import Configuration
from thaw.catalog.events import Event

logger = logging.getLogger(__name__)

Condition = Literal["Success", "RetriesExhausted", "EventAgeExceeded"]
# Lambda ends a loop of functions that call each other after about as many turns.
LONGEST_CHAIN = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an event ended; `response` is the JSON of the last attempt, None where there was none."""

    condition: Condition
    executed_version: str
    response: bytes | None
    function_error: str | None


def record(event: Event, payload: bytes, outcome: Outcome) -> bytes:
    """The JSON document for a destination."""
    version = outcome.executed_version or event.qualifier or "$LATEST"
    function_arn = event.invoked_arn if event.qualifier else f"{event.invoked_arn}:{version}"
    document: dict[str, Any] = {
        "version": "1.0",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": function_arn,
            "condition": outcome.condition,
            "approximateInvokeCount": event.attempts,
        },
        "requestPayload": msgspec.Raw(payload),
    }
    if outcome.response is not None:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": version}
        if outcome.function_error is not None:
            context["functionError"] = outcome.function_error
        document |= {"responseContext": context, "responsePayload": _json(outcome.response)}
    return msgspec.json.encode(document)


def _json(text: bytes) -> Any:
    """A response is JSON as a rule; a runtime of the function's own may have answered anything."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return text.decode(errors="replace")
    return msgspec.Raw(text)


def following(
    event: Event, payload: bytes, outcome: Outcome, config: EventInvokeConfig | None, configuration: Configuration
) -> Sequence[tuple[Event, bytes]]:
    """The calls that an ended event brings about."""
    calls: list[tuple[Event, bytes]] = []
    succeeded = outcome.condition == "Success"
    target = config and (config.on_success if succeeded else config.on_failure)
    if target:
        calls += _call(event, target, record(event, payload, outcome))
    letters = configuration.other_members.get("DeadLetterConfig") or {}
    if not succeeded and (target := letters.get("TargetArn")):
        calls += _call(event, target, payload)
    return calls


def _call(event: Event, target: str, payload: bytes) -> Sequence[tuple[Event, bytes]]:
    """A call of `target`, a function's ARN with or without a qualifier; none where it is something else."""
    parts = target.split(":")
    if len(parts) not in (7, 8) or parts[2] != "lambda" or parts[5] != "function":
        logger.warning("the outcome of %s is lost: its target %s is not a function", event.request_id, target)
        return ()
    if event.depth >= LONGEST_CHAIN:
        logger.warning(
            "the outcome of %s is not passed on to %s: it came through %d destinations already, which is a loop",
            event.request_id, target, event.depth,
        )  # fmt: skip
        return ()
    call = Event(
        request_id=str(uuid.uuid4()),
        function_name=parts[6],
        qualifier=parts[7] if len(parts) == 8 else None,
        function_id="",
        invoked_arn=target,
        created=time.time(),
        trace_id=event.trace_id,
        depth=event.depth + 1,
    )
    return ((call, payload),)
