"""A light load generator, in a process of its own: python load.py <url> <function> <connections> <seconds>.

Every connection asks for the next call when its last was answered. Prints one JSON object: how many calls were answered
in how many seconds, and the latency of each in ms.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit


async def call_until(end: float, url: str, request: bytes, latencies: list[float]) -> None:
    """One connection; raises RuntimeError where a call is not answered with 200."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    while (began := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"A call was answered with {head.decode('latin-1')}")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append((time.perf_counter() - began) * 1e3)
    writer.close()


async def load(url: str, function: str, connections: int, seconds: float) -> dict[str, object]:
    """All connections together."""
    request = (
        f"POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        "Content-Length: 2\r\n\r\n{}"
    ).encode()
    latencies: list[float] = []
    began = time.perf_counter()
    calls = [call_until(began + seconds, url, request, latencies) for _ in range(connections)]
    await asyncio.gather(*calls)
    return {"seconds": time.perf_counter() - began, "latencies_ms": latencies}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
