"""The picture of `make bench-java` and its load generator."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ElementTree

from performance.latency_plot import percentile_plot
from performance.open_loop import OpenLoop

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_has_a_line_for_each_series_and_falls_nowhere_out_of_its_frame() -> None:
    picture = ElementTree.fromstring(percentile_plot("a < b", {"one": [1.0, 2.0, 400.0], "two": [5.0]}))
    lines = picture.findall(f"{SVG}polyline")
    assert len(lines) == 2
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert all(0 <= x <= 860 and 0 <= y <= 480 for x, y in points)
        assert points == sorted(points, key=lambda point: point[0])
    assert "a < b" in [text.text for text in picture.findall(f"{SVG}text")]


async def test_calls_begin_when_they_are_due_although_none_was_answered_yet() -> None:
    """The server answers nothing before all calls are due: a closed loop would never make the second."""
    asked = asyncio.Semaphore(0)
    answer = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                await reader.readuntil(b"{}")
            except asyncio.IncompleteReadError:
                break  # the generator has closed its connection: it is through
            asked.release()
            await answer.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright")
        writer.close()

    async def release(count: int) -> None:
        for _ in range(count):
            await asked.acquire()
        answer.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = OpenLoop(f"http://127.0.0.1:{port}", "f", "1", b"{}", b"right", connections=3)
    async with asyncio.timeout(60), server:
        calls, _ = await asyncio.gather(loop.run(rate=50.0, seconds=0.5, seed=1), release(3))
    assert len(calls) > 3
    assert all(call.right and not call.retries for call in calls)
    assert [call.due_s for call in calls] == sorted(call.due_s for call in calls)
