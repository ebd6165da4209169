"""The queue of asynchronous calls: what `add` returned for is kept until it was ended, whatever happens to the server.

Several calls that come at one time are stored by one commit, because each commit waits for the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select, update

from thaw.catalog import tables
from thaw.catalog.database import Database

_events = tables.events


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One asynchronous call.

    `function_name` and `qualifier` are what was called, resolved anew for each attempt. Times are seconds since the
    epoch. `attempts` were made of which the function knows, `throttled` times in a row there was no room for one.
    `depth` counts the destinations through which the event came. `last_response` is the JSON of the last attempt.
    """

    request_id: str
    function_name: str
    qualifier: str | None
    function_id: str
    invoked_arn: str
    created: float
    trace_id: str | None = None
    depth: int = 0
    attempts: int = 0
    throttled: int = 0
    last_response: str | None = None
    executed_version: str = ""


@dataclass(frozen=True, slots=True)
class Queued:
    """An event in the queue: its place, when its next attempt may begin, and its payload."""

    number: int
    due: float
    event: Event
    payload: bytes


class EventQueue:
    """Events in the order of their coming."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._coming: list[tuple[dict[str, Any], asyncio.Future[None]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def add(self, event: Event, payload: bytes) -> None:
        """Stores an event; it is durable when this returns."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._coming.append((_row(event, payload, event.created), stored))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store())
        await stored

    async def _store(self) -> None:
        while self._coming:
            batch, self._coming = self._coming, []
            try:
                async with self._database.write() as connection:
                    await connection.execute(insert(_events), [row for row, _ in batch])
            except Exception as error:
                _settle(batch, error)
            else:
                _settle(batch, None)

    async def due(self, now: float, *, without: Sequence[int], limit: int) -> list[Queued]:
        """Up to `limit` events that are due, those that have waited longest first, without those of some numbers."""
        query = select(_events).where(_events.c.due <= now, _events.c.number.not_in(without))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(_events.c.due, _events.c.number).limit(limit))
            return [
                Queued(row.number, row.due, msgspec.json.decode(row.document, type=Event), row.payload) for row in rows
            ]

    async def next_due(self, *, without: Sequence[int]) -> float | None:
        """When the next event is due, without those of some numbers; None where there is none."""
        query = select(func.min(_events.c.due)).where(_events.c.number.not_in(without))
        async with self._database.read() as connection:
            found: float | None = (await connection.execute(query)).scalar()
            return found

    async def later(self, number: int, event: Event, due: float) -> None:
        """Puts an event back for another attempt."""
        values = {"document": msgspec.json.encode(event).decode(), "due": due}
        async with self._database.write() as connection:
            await connection.execute(update(_events).where(_events.c.number == number).values(values))

    async def end(self, number: int, following: Sequence[tuple[Event, bytes]] = ()) -> None:
        """Forgets an event; what follows from it (calls of its destinations) is stored in the same commit."""
        async with self._database.write() as connection:
            await connection.execute(delete(_events).where(_events.c.number == number))
            for event, payload in following:
                await connection.execute(insert(_events).values(_row(event, payload, event.created)))

    async def size(self) -> int:
        """How many events there are."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(func.count()).select_from(_events))).scalar_one())


def _row(event: Event, payload: bytes, due: float) -> dict[str, Any]:
    document = msgspec.json.encode(event).decode()
    return {"request_id": event.request_id, "due": due, "document": document, "payload": payload}


def _settle(batch: Sequence[tuple[Any, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, stored in batch:
        if stored.done():
            continue  # who waited for it was cancelled; the event is kept all the same
        if error is None:
            stored.set_result(None)
        else:
            stored.set_exception(error)
