"""Lazy restore: clones that run before their memory has arrived, on a real page-fault server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from matrix import harness
from thaw.errors import RestoreFailed, RestoreRefused, StoreUnavailable
from thaw.restore import Observed, PageFaults, PageFaultService, Put, Resident, page_faults
from thaw.snapshot import Capture, Layout, lay_out

pytestmark = pytest.mark.root
PIECE = 512 * 1024


@dataclass
class Source:
    """The image of a snapshot, piece by piece, with what may go wrong on the way."""

    memory: int
    delay_s: float = 0.0
    broken: set[int] = field(default_factory=set)
    reads: list[int] = field(default_factory=list)
    held: asyncio.Event | None = None
    """Until it is set, only pieces below `eager` arrive."""
    eager: int = 0

    @property
    def size(self) -> int:
        return os.fstat(self.memory).st_size

    @property
    def piece(self) -> int:
        return PIECE

    async def read(self, put: Put, pieces: Sequence[int], arrived: Callable[[int], None]) -> None:
        for piece in pieces:
            if self.held is not None and piece * PIECE >= self.eager:
                await self.held.wait()
            await asyncio.sleep(self.delay_s)
            if piece in self.broken:
                raise StoreUnavailable("The origin does not answer.")
            put(piece, memoryview(bytearray(os.pread(self.memory, PIECE, piece * PIECE))))
            self.reads.append(piece)
            arrived(piece)


@dataclass
class Frozen:
    ground: harness.Ground
    folder: Path
    capture: Capture
    layout: Layout
    faults: PageFaults
    stack: AsyncExitStack

    async def resident(self, source: Source) -> Resident:
        source.eager = self.layout.eager_size
        facts = {**self.capture.facts, "eager_bytes": self.layout.eager_size}
        resident = await Resident.load(
            mounts=self.ground.namespace, places=harness.shared_places(), plan=self.layout.plan, facts=facts,
            source=source, page_faults=self.faults,
        )  # fmt: skip
        self.stack.push_async_callback(resident.close)
        return resident

    async def box(self, name: str) -> harness.Box:
        return await self.stack.enter_async_context(harness.box(self.ground, self.folder, name))


class _Cloner:
    """What the harness calls a template, over a Resident."""

    def __init__(self, resident: Resident, *, record: bool = False) -> None:
        self.resident = resident
        self.record = record
        self.cloned: Any = None
        self.number = 0

    async def clone(self, request: Any) -> Any:
        self.cloned, self.number = await self.resident.clone(request, record=self.record)
        return self.cloned


@asynccontextmanager
async def frozen(folder: Path, program: str) -> AsyncIterator[Frozen]:
    async with AsyncExitStack() as stack:
        on = stack.enter_context(harness.ground())
        original = await stack.enter_async_context(harness.box(on, folder, "original"))
        await harness.start(original, program)
        capture = await harness.frozen(original)
        stack.callback(os.close, capture.memory)
        layout = lay_out(capture.plan, capture.memory, [])
        stack.callback(os.close, layout.memory)
        faults = await PageFaults.start()
        stack.push_async_callback(faults.close)
        yield Frozen(on, folder, capture, layout, faults, stack)


def expected() -> dict[str, Any]:
    pages = [page for page in range(0, 16 << 20, 4096) if not (4 << 20) <= page < (5 << 20)]
    digest = hashlib.sha256(b"".join(page.to_bytes(8, "little").ljust(4096, b"\0") for page in pages))
    return {
        "first": 0,
        "last": (24 << 20) - 4096,
        "given_back": [0, 0, 5 << 20],
        "child": 0,
        "children": [0] * 40,
        "moved": [16 << 20, (18 << 20) - 4096, 0],
        "digest": digest.hexdigest(),
    }


async def test_clones_run_before_their_memory_has_arrived(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        source = Source(made.layout.memory, delay_s=0.002)
        resident = await made.resident(source)
        assert made.layout.eager_size < 12 << 20
        assert len(source.reads) < source.size // PIECE // 2
        boxes = [await made.box(f"clone{index}") for index in range(3)]
        answers = await asyncio.gather(*(harness.thawed(_Cloner(resident), box, b"") for box in boxes))
        assert [answer for _, answer in answers] == [{"found": expected()}] * 3
        assert len(source.reads) == len(set(source.reads))


async def test_each_piece_is_fetched_once_whoever_asks(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        source = Source(made.layout.memory)
        resident = await made.resident(source)
        await asyncio.gather(*(resident._arrival.fetch(range(resident._arrival.count)) for _ in range(4)))
        assert sorted(source.reads) == list(range(resident._arrival.count))


async def test_a_rehearsal_moves_what_was_touched_to_the_front(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        resident = await made.resident(Source(made.layout.memory))
        cloner = _Cloner(resident, record=True)
        reports: list[Observed] = []

        async def ask(box: harness.Box) -> Any:
            answer = await original_ask(box)
            reports.append(await resident.observed(cloner.cloned, cloner.number))
            return answer

        original_ask, harness.ask = harness.ask, ask  # type: ignore[assignment]
        try:
            await harness.thawed(cloner, await made.box("rehearsal"), b"")
        finally:
            harness.ask = original_ask  # type: ignore[assignment]
        touched = reports[0].touched
        assert reports[0].written
        again = lay_out(made.capture.plan, made.capture.memory, touched)
        made.stack.callback(os.close, again.memory)
        assert again.eager_size >= made.layout.eager_size + (15 << 20)
        assert os.fstat(again.memory).st_size == os.fstat(made.layout.memory).st_size


async def test_when_the_page_fault_server_dies_its_clones_stop_and_never_see_a_page_of_zeros(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        source = Source(made.layout.memory, held=asyncio.Event())
        resident = await made.resident(source)
        waiting = asyncio.create_task(harness.thawed(_Cloner(resident), await made.box("clone"), b""))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        os.kill(made.faults.pid, signal.SIGKILL)
        _, answer = await waiting
        assert answer["ended"] == signal.SIGKILL
        assert not resident.usable
        with pytest.raises(RestoreFailed):
            await resident.clone(_request(await made.box("another")))


async def test_a_piece_that_cannot_be_had_ends_the_clones_that_wait_for_it(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        count = -(-os.fstat(made.layout.memory).st_size // PIECE)
        source = Source(made.layout.memory, broken={count - 1})
        resident = await made.resident(source)
        _, answer = await harness.thawed(_Cloner(resident), await made.box("clone"), b"")
        assert answer["ended"] == signal.SIGKILL


async def test_without_userfaultfd_everything_is_loaded_first(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        source = Source(made.layout.memory)
        await made.faults.close()
        made.faults = None  # type: ignore[assignment]
        resident = await made.resident(source)
        assert len(source.reads) == -(-source.size // PIECE)
        _, answer = await harness.thawed(_Cloner(resident), await made.box("clone"), b"")
        assert answer == {"found": expected()}


async def test_without_userfaultfd_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(page_faults, "_SYS_USERFAULTFD", 1 << 20)  # a system call that no kernel has
    service = PageFaultService()
    assert await service.current() is None
    assert await service.current() is None
    sentence = "Snapshots are loaded completely before they are used, as userfaultfd says: Function not implemented."
    assert [record.getMessage() for record in caplog.records] == [sentence]
    await service.close()


def _request(box: harness.Box) -> harness.CloneRequest:
    return harness.request_of(box, seccomp=b"")


async def test_children_that_ended_are_let_go(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        resident = await made.resident(Source(made.layout.memory))
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(os.listdir(f"/proc/{made.faults.pid}/fd")))
                await asyncio.sleep(0.002)

        before = len(os.listdir(f"/proc/{made.faults.pid}/fd"))
        watching = asyncio.create_task(watch())
        _, answer = await harness.thawed(_Cloner(resident), await made.box("clone"), b"")
        watching.cancel()
        assert answer == {"found": expected()}
        assert most <= before + 10


async def test_more_news_than_the_socket_holds_arrive_in_order(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        os.kill(made.faults.pid, signal.SIGSTOP)
        try:
            resident = await made.resident(Source(made.layout.memory))
            for _ in range(2000):
                made.faults.arrived(resident._image, [0])
        finally:
            os.kill(made.faults.pid, signal.SIGCONT)
        _, answer = await harness.thawed(_Cloner(resident), await made.box("clone"), b"")
        assert answer == {"found": expected()}


def kinds_of_descriptors() -> Counter[str]:
    """How many descriptors of each kind this process has."""
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            found[os.readlink(f"/proc/self/fd/{number}").partition(":")[0]] += 1
    return found


async def test_an_image_that_cannot_be_had_leaves_no_descriptor(tmp_path: Path) -> None:
    async with frozen(tmp_path, "lazy_memory") as made:
        before = kinds_of_descriptors()
        with pytest.raises(StoreUnavailable):
            await made.resident(Source(made.layout.memory, broken={0}))
        with pytest.raises(RestoreRefused):
            await Resident.load(
                mounts=made.ground.namespace, places=harness.shared_places(), plan=made.layout.plan,
                facts={**made.capture.facts, "architecture": "another"}, source=Source(made.layout.memory),
                page_faults=made.faults,
            )  # fmt: skip
        assert kinds_of_descriptors() == before
