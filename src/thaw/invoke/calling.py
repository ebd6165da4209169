"""The Invoking port of the AWS front: calls that are waited for, and calls that are put into the queue."""

from __future__ import annotations

from thaw.invoke.call import Answer, Call
from thaw.invoke.events import EventProcessing
from thaw.invoke.invoking import Invoker


class Calling:
    """Joins the two; the invoker is started and closed by itself, because it outlives the queue's attempts."""

    def __init__(self, invoker: Invoker, events: EventProcessing) -> None:
        self._invoker = invoker
        self._events = events

    async def invoke(self, call: Call) -> Answer:
        """Runs the call; raises ServiceError where it was not run."""
        return await self._invoker.invoke(call)

    async def enqueue(self, call: Call) -> None:
        """Takes an asynchronous call."""
        await self._events.enqueue(call)

    def start(self) -> None:
        """Begins to work on the queue."""
        self._events.start()

    async def close(self) -> None:
        """Stops to work on the queue."""
        await self._events.close()
