"""An open-loop load generator: calls begin when they are due, whether or not earlier ones were answered.

A latency counts from the moment at which the call was due, so that calls which a slow answer holds up count, too (what
closed loops leave out is known as coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

RETRY_S = 0.02
"""Pause before a call that was refused with 429 is made again, as the AWS SDKs do."""


@dataclass(frozen=True, slots=True)
class Call:
    """When a call was due, in s since the start; how long its answer took from then, in ms; whether it was right."""

    due_s: float
    latency_ms: float
    right: bool
    retries: int


class OpenLoop:
    """Calls to one version of a function over kept connections; those that are due while all `connections` are busy
    wait in line, and that counts."""

    def __init__(
        self, url: str, function: str, qualifier: str, payload: bytes, expected: bytes, connections: int
    ) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname, parts.port
        self._request = (
            f"POST /2015-03-31/functions/{function}/invocations?Qualifier={qualifier} HTTP/1.1\r\n"
            f"Host: {parts.netloc}\r\nContent-Length: {len(payload)}\r\n\r\n"
        ).encode() + payload
        self._expected = expected
        self._line = asyncio.Semaphore(connections)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self, rate: float, seconds: float, seed: int) -> list[Call]:
        """Poisson arrivals at `rate` calls a second; the same `seed` gives the same moments."""
        moments = random.Random(seed)
        calls: list[asyncio.Task[Call]] = []
        began, due = time.perf_counter(), 0.0
        while (due := due + moments.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
            calls.append(asyncio.create_task(self._call(began, due)))
        done = await asyncio.gather(*calls)
        for _, writer in self._free:
            writer.close()
        self._free.clear()
        return done

    async def _call(self, began: float, due: float) -> Call:
        retries = 0
        async with self._line:
            while (answer := await self._exchange())[0] == 429:
                retries += 1
                await asyncio.sleep(RETRY_S)
        status, body = answer
        right = status == 200 and self._expected in body
        return Call(due, (time.perf_counter() - began - due) * 1e3, right, retries)

    async def _exchange(self) -> tuple[int, bytes]:
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(*self._address)
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        self._free.append((reader, writer))
        return int(head.split()[1]), body
