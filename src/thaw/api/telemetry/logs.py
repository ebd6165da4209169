"""CloudWatch Logs: the log groups, streams and events of this server's functions, for reading."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from thaw.api.telemetry.filter_pattern import compile_pattern
from thaw.errors import ServiceError
from thaw.observe.log_reader import Group, LogEvent, LogReader, Stream

# The model's limits and defaults: events of a page, groups and streams of a page.
MOST_EVENTS = 10_000
MOST_LISTED = 50
_GROUP_ARN = re.compile(r"arn:[^:]+:logs:[^:]*:[^:]*:log-group:([^:]+)(:\*)?")
_POSITION = re.compile(r"([fb])/(\d{1,12})")


class Logs:
    """The operations; arguments and answers are the documents of the service model. Methods block on files."""

    def __init__(self, reader: LogReader, *, region: str, account_id: str) -> None:
        self._reader = reader
        self.arn = f"arn:aws:logs:{region}:{account_id}:log-group:"

    def describe_groups(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeLogGroups."""
        prefix, pattern = asked.get("logGroupNamePrefix") or "", asked.get("logGroupNamePattern")
        if prefix and pattern:
            raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        found = [one for one in self._reader.groups(prefix) if not pattern or pattern in one.name]
        page, token = _page([(one.name, one) for one in found], asked)
        return _with_token({"logGroups": [self._group(one) for one in page]}, token)

    def describe_streams(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeLogStreams."""
        group = self._named(asked)
        prefix = asked.get("logStreamNamePrefix") or ""
        by_time = asked.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        found = self._reader.streams(group, prefix)
        if by_time:
            keyed = sorted((f"{one.last:015d}/{one.name}", one) for one in found)
        else:
            keyed = sorted((one.name, one) for one in found)
        page, token = _page(keyed, asked, descending=asked.get("descending", False))
        return _with_token({"logStreams": [self._stream(group, one) for one in page]}, token)

    def get_events(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """GetLogEvents: a page of one stream, with tokens for the pages on both sides of it."""
        group = self._named(asked)
        streams = [one for one in self._reader.streams(group) if one.name == asked["logStreamName"]]
        if not streams:
            raise ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")
        events = list(self._reader.events(streams, asked.get("startTime"), asked.get("endTime")))
        forward, place = _read_position(asked)
        limit = asked.get("limit") or MOST_EVENTS
        if forward:
            page = [one for one in events if one.number >= place][:limit]
        else:
            page = [one for one in events if one.number < place][-limit:]
        here = place if place < 1 << 62 else 0
        after, before = (page[-1].number + 1, page[0].number) if page else (here, here)
        return {
            "events": [
                {"timestamp": one.timestamp, "message": one.message, "ingestionTime": one.timestamp} for one in page
            ],
            "nextForwardToken": f"f/{after}",
            "nextBackwardToken": f"b/{before}",
        }

    def filter_events(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """FilterLogEvents: events of many streams, by time."""
        group = self._named(asked)
        names, prefix = asked.get("logStreamNames"), asked.get("logStreamNamePrefix") or ""
        if names and prefix:
            raise _invalid("logStreamNames and logStreamNamePrefix are mutually exclusive parameters.")
        streams = [one for one in self._reader.streams(group, prefix) if not names or one.name in names]
        limit = asked.get("limit") or MOST_EVENTS
        found = list(islice(self._matching(streams, asked), limit + 1))
        page = found[:limit]
        token = _event_token(page[-1]) if len(found) > limit else None
        events = [
            {
                "logStreamName": one.stream, "timestamp": one.timestamp, "message": one.message,
                "ingestionTime": one.timestamp, "eventId": one.id,
            }
            for one in page
        ]  # fmt: skip
        return _with_token({"events": events, "searchedLogStreams": []}, token)

    def _matching(self, streams: Sequence[Stream], asked: Mapping[str, Any]) -> Iterator[LogEvent]:
        matches = compile_pattern(asked.get("filterPattern") or "")
        after = _read_event_token(asked.get("nextToken"))
        end = asked.get("endTime")
        for event in self._reader.events(list(streams), asked.get("startTime"), None if end is None else end + 1):
            beyond = after is None or (event.timestamp, event.stream, event.number) > after
            if beyond and matches(event.message):
                yield event

    def _named(self, asked: Mapping[str, Any]) -> Group:
        identifier = asked.get("logGroupName") or asked.get("logGroupIdentifier")
        if not identifier:
            raise _invalid("Either logGroupName or logGroupIdentifier must be given.")
        return self.find(identifier)

    def find(self, identifier: str) -> Group:
        """The group of a name or an ARN. Raises ResourceNotFoundException."""
        arn = _GROUP_ARN.fullmatch(identifier)
        name = arn[1] if arn else identifier
        group = self._reader.group(name)
        if group is None:
            raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")
        return group

    def _group(self, group: Group) -> dict[str, Any]:
        return {
            "logGroupName": group.name,
            "creationTime": group.created,
            "metricFilterCount": 0,
            "arn": f"{self.arn}{group.name}:*",
            "logGroupArn": f"{self.arn}{group.name}",
            "storedBytes": group.size,
            "logGroupClass": "STANDARD",
        }

    def _stream(self, group: Group, stream: Stream) -> dict[str, Any]:
        return {
            "logStreamName": stream.name,
            "creationTime": stream.first,
            "firstEventTimestamp": stream.first,
            "lastEventTimestamp": stream.last,
            "lastIngestionTime": stream.last,
            "arn": f"{self.arn}{group.name}:log-stream:{stream.name}",
            "storedBytes": 0,  # CloudWatch itself shows 0 since 2019
        }


def _page(
    keyed: Sequence[tuple[str, Any]], asked: Mapping[str, Any], *, descending: bool = False
) -> tuple[list[Any], str | None]:
    """A page of things by key; the token is the key of the last one, so that new ones in between do no harm."""
    token = asked.get("nextToken")
    limit = asked.get("limit") or MOST_LISTED
    ordered = list(reversed(keyed)) if descending else list(keyed)
    rest = [one for one in ordered if token is None or (one[0] < token if descending else one[0] > token)]
    page = rest[:limit]
    return [value for _, value in page], page[-1][0] if len(rest) > limit else None


def _with_token(answer: dict[str, Any], token: str | None) -> dict[str, Any]:
    return answer if token is None else {**answer, "nextToken": token}


def _read_position(asked: Mapping[str, Any]) -> tuple[bool, int]:
    """The direction in which to read, and the line to begin with (forward) or before (backward)."""
    token = asked.get("nextToken")
    if token is None:
        return (True, 0) if asked.get("startFromHead") else (False, 1 << 62)
    match = _POSITION.fullmatch(token)
    if match is None:
        raise _invalid("The specified nextToken is invalid.")
    return match[1] == "f", int(match[2])


def _event_token(event: LogEvent) -> str:
    return f"{event.timestamp}|{event.number}|{event.stream}"


def _read_event_token(token: str | None) -> tuple[int, str, int] | None:
    if token is None:
        return None
    match = re.fullmatch(r"(\d{1,15})\|(\d{1,12})\|(.+)", token)
    if match is None:
        raise _invalid("The specified nextToken is invalid.")
    return int(match[1]), match[3], int(match[2])


def _invalid(text: str) -> ServiceError:
    return ServiceError("InvalidParameterException", text)
