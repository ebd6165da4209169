"""An asyncio loop in a thread: self-pipe, epoll, timers, a server on a Unix socket, executor threads."""

import asyncio
import threading

log = []


async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


async def talk():
    reader, writer = await asyncio.open_unix_connection("/tmp/server")
    writer.write(b"hello\n")
    answer = (await reader.readline()).decode()
    writer.close()
    return answer


async def set_up(loop):
    loop.call_later(0.4, log.append, "later")
    await loop.run_in_executor(None, log.append, "executor")
    return await asyncio.start_unix_server(serve, "/tmp/server")


def prepare():
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = asyncio.run_coroutine_threadsafe(set_up(loop), loop).result(10)
    return loop, server


def check(state):
    loop, _ = state
    # asyncio knows its running loop by process number, as after a fork; the runtime's bootstrap tells it the new one.
    loop.call_soon_threadsafe(asyncio._set_running_loop, loop)

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    async def execute():
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 6 * 7)

    answers = [run(talk()), run(talk()), run(execute())]
    run(asyncio.sleep(0.5))
    return [answers, log]
