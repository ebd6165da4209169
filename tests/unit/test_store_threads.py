"""Work in threads is never abandoned, however often its caller is cancelled."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from thaw.store.threads import in_thread


async def test_cancelled_twice_still_waits_for_the_thread() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(30)
        ended.set()

    with ThreadPoolExecutor(1) as threads:
        caller = asyncio.create_task(in_thread(threads, work))
        for _ in range(3):
            await asyncio.sleep(0)
            caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert ended.is_set()


async def test_results_and_errors_are_passed_on() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert await in_thread(threads, lambda: 7) == 7
        with pytest.raises(ZeroDivisionError):
            await in_thread(threads, lambda: 1 // 0)
