"""StartLiveTail: the events of log groups as functions write them, as an event stream.

A session begins with `sessionStart`; then comes a `sessionUpdate` a second, also where nothing was written. It ends
with the client, with the server, or after three hours with a SessionTimeoutException, as on CloudWatch Logs.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from thaw.api import event_stream
from thaw.api.telemetry.filter_pattern import compile_pattern
from thaw.errors import ServiceError
from thaw.observe.log_follower import LogFollower
from thaw.observe.log_reader import Group

PERIOD_S = 1.0
LONGEST_S = 3 * 3600.0
# Events of one update; more follow in further ones at once, so that nothing is left out and no message is too large.
MOST_EVENTS = 500
_JSON = "application/json"
Followed = tuple[Group, str, LogFollower]


class LiveTail:
    """The sessions of one server; `find(identifier)` gives the group of a name or ARN."""

    def __init__(
        self, find: Callable[[str], Group], arn: str, *, period_s: float = PERIOD_S, longest_s: float = LONGEST_S
    ) -> None:
        self._find = find
        self._arn = arn
        self._period_s = period_s
        self._longest_s = longest_s
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends all sessions: the server stops."""
        self._stopping.set()

    async def start(self, asked: Mapping[str, Any], request_id: str) -> AsyncGenerator[bytes, None]:
        """The messages of a new session. Raises ServiceError before the first where it cannot begin."""
        _check(asked)
        wanted = _wanted(asked)
        groups = [await asyncio.to_thread(self._find, one) for one in asked["logGroupIdentifiers"]]
        followed = [await asyncio.to_thread(self._follow, group) for group in groups]
        return self._session(asked, followed, wanted, request_id)

    def _follow(self, group: Group) -> Followed:
        return group, f"{self._arn}{group.name}", LogFollower(group.folder, from_now=True)

    async def _session(
        self,
        asked: Mapping[str, Any],
        followed: Sequence[Followed],
        wanted: Callable[[str, str], bool],
        request_id: str,
    ) -> AsyncGenerator[bytes, None]:
        began = time.monotonic()
        yield event_stream.event("initial-response", "application/x-amz-json-1.1", b"{}")
        yield event_stream.event("sessionStart", _JSON, msgspec.json.encode(_start(asked, followed, request_id)))
        while not self._stopping.is_set():
            events = await asyncio.to_thread(_new_events, followed, wanted)
            for place in range(0, max(1, len(events)), MOST_EVENTS):
                update = {"sessionMetadata": {"sampled": False}, "sessionResults": events[place : place + MOST_EVENTS]}
                yield event_stream.event("sessionUpdate", _JSON, msgspec.json.encode(update))
            if time.monotonic() - began >= self._longest_s:
                message = msgspec.json.encode({"message": "The session timed out."})
                yield event_stream.exception("SessionTimeoutException", _JSON, message)
                return
            await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._period_s):
                await self._stopping.wait()
        except TimeoutError:
            return


def _start(asked: Mapping[str, Any], followed: Sequence[Followed], request_id: str) -> dict[str, Any]:
    return {
        "requestId": request_id,
        "sessionId": str(uuid.uuid4()),
        "logGroupIdentifiers": [arn for _, arn, _ in followed],
        "logStreamNames": asked.get("logStreamNames") or [],
        "logStreamNamePrefixes": asked.get("logStreamNamePrefixes") or [],
        "logEventFilterPattern": asked.get("logEventFilterPattern") or "",
    }


def _new_events(followed: Sequence[Followed], wanted: Callable[[str, str], bool]) -> list[dict[str, Any]]:
    """What was written since the last look, by time. Blocks on files."""
    events = [
        {"logStreamName": stream, "logGroupIdentifier": arn, "message": text, "timestamp": moment,
         "ingestionTime": moment}
        for _, arn, follower in followed
        for moment, stream, text in follower.new_events()
        if text and wanted(stream, text)
    ]  # fmt: skip
    return sorted(events, key=lambda event: event["timestamp"])


def _wanted(asked: Mapping[str, Any]) -> Callable[[str, str], bool]:
    """Whether an event of a stream, with a text, is asked for."""
    names, prefixes = asked.get("logStreamNames"), tuple(asked.get("logStreamNamePrefixes") or ())
    matches = compile_pattern(asked.get("logEventFilterPattern") or "")
    return lambda stream, text: (
        (not names or stream in names) and (not prefixes or stream.startswith(prefixes)) and matches(text)
    )


def _check(asked: Mapping[str, Any]) -> None:
    """CloudWatch's own rules: streams can be chosen in one group only, and in one way."""
    names, prefixes = asked.get("logStreamNames"), asked.get("logStreamNamePrefixes")
    if names and prefixes:
        raise ServiceError(
            "InvalidParameterException", "logStreamNames and logStreamNamePrefixes are mutually exclusive parameters."
        )
    if (names or prefixes) and len(asked["logGroupIdentifiers"]) > 1:
        raise ServiceError(
            "InvalidParameterException",
            "logStreamNames and logStreamNamePrefixes need exactly one log group: name one in logGroupIdentifiers.",
        )
