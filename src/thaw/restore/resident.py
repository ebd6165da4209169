"""A snapshot on its way into this worker's memory, and there.

The template is built while the front of the image arrives: what calls touch, in the order in which they touch it.
Then clones can be made; what is behind it comes meanwhile, and a clone that touches it earlier waits for that piece
alone. Each piece is fetched once, whoever asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from thaw.errors import RestoreFailed, ThawError
from thaw.restore.arrival import Arrival, ImageSource
from thaw.restore.page_fault_messages import BLOCK
from thaw.restore.page_faults import PageFaults
from thaw.restore.placing import Placing
from thaw.restore.template import Cloned, Request, Template
from thaw.restore.written_pages import ExpectedWrites, as_ranges, pages_of, private_ranges, written_ranges

_logger = logging.getLogger(__name__)
_EXTENT = struct.Struct("=QQQ")
_RANGE = struct.Struct("=QQ")
_TABLES: Final = (192, 4)  # offset in a plan of the extents' and lazy ranges' tables, and how many numbers
_PLAN_ADDRESS: Final = 0x5100_0000_0000
_LEARNING: Final = 8  # how many calls' touched pages are looked at
_LOOK_AFTER_S: Final = 0.5
_REST_AFTER_S: Final = 0.1
_PAGE: Final = 4096
_PORTION: Final = 4 << 20  # bytes filled at a time, so that clones can be made in between
_SMALL: Final = 128 << 20
"""Bytes of an image that a template holds completely; a fork of more page tables would cost more than late pages do."""
_BATCH: Final = 16  # pieces


Extent = tuple[int, int, int]
"""Address, size, and offset in the image."""


def read_extents(plan: bytes) -> list[Extent]:
    """Each part of the template's memory, as the plan's table has them (native/plan.h)."""
    address, count, _, _ = struct.unpack_from(f"={_TABLES[1]}Q", plan, _TABLES[0])
    start = address - _PLAN_ADDRESS
    return list(_EXTENT.iter_unpack(plan[start : start + count * _EXTENT.size]))


def read_lazy_ranges(plan: bytes) -> list[tuple[int, int]]:
    """Address and size of the ranges that clones can do without at first."""
    _, _, address, count = struct.unpack_from(f"={_TABLES[1]}Q", plan, _TABLES[0])
    start = address - _PLAN_ADDRESS
    return list(_RANGE.iter_unpack(plan[start : start + count * _RANGE.size]))


@dataclass(frozen=True, slots=True)
class Observed:
    """What a rehearsal showed: addresses of pages in the order in which they were touched, and ranges (address, size)
    that were written."""

    touched: list[int]
    written: list[tuple[int, int]]


class Resident:
    """One snapshot on this worker. Make it with `load`; ask it for clones; `close` it."""

    def __init__(self, template: Template, arrival: Arrival, page_faults: PageFaults | None) -> None:
        self.template = template
        self.on_learnt: Callable[[dict[str, Any]], None] = lambda facts: None
        """Called with facts for the manifest that the first calls showed: `refined_pieces`, which they touched although
        no rehearsal had, and `written_by_calls`, the memory that they write; each at most once."""
        self.on_complete: Callable[[], None] = lambda: None
        """Called once when the rest of the image is in the template, where it was not from the beginning."""
        self._arrival = arrival
        self._page_faults = page_faults
        self._image = 0
        self._complete = False
        self._extents: list[Extent] = []
        self._lazy: list[tuple[int, int]] = []
        self._rest: asyncio.Task[None] | None = None
        self._touched: set[int] = set()
        self._filled: set[int] = set()
        """Addresses of the parts that were filled because calls touched them."""
        self._learning = 0
        self._writes = ExpectedWrites(template.facts.get("written", ()))
        self._eager = 0
        self._live = 0
        self._tasks: set[asyncio.Future[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._closed = False

    @classmethod
    async def load(
        cls,
        *,
        mounts: int,
        places: Sequence[tuple[str, int]],
        plan: bytes,
        facts: Mapping[str, Any],
        source: ImageSource,
        page_faults: PageFaults | None,
        memory_fd: int | None = None,
    ) -> Resident:
        """Build a template; it is ready when everything that clones cannot do without has arrived.

        Without a page-fault server everything is waited for. `mounts` and `places` are as for `Template.load`. Where
        the whole image is here already, in the memfd `memory_fd` (the caller's), nothing is read.

        Raises:
            RestoreRefused: this machine differs from the snapshot's.
            RestoreFailed: a step of the plan failed.
            StoreError: a piece could not be had.
        """
        arrival = Arrival.of(source) if memory_fd is None else Arrival.complete(memory_fd, source.piece)
        eager = source.size if page_faults is None else min(source.size, facts.get("eager_bytes", source.size))
        first = _pieces(0, eager, source.piece)
        clones_own = _pieces(facts.get("clone_offset", source.size), source.size, source.piece)
        fetching = asyncio.create_task(arrival.fetch([*first, *clones_own]))
        release: Callable[[], Awaitable[None]] | None = None
        try:
            template = await Template.load(
                mounts=mounts, places=places, plan=plan, memory_fd=arrival.memory, facts=facts, fill=False
            )
            resident = cls(template, arrival, page_faults)
            release = resident.close
            await resident._settle(eager, fetching, plan)
            return resident
        except BaseException:
            fetching.cancel()  # and waited for: a thread may be writing to the image, which is closed then
            await asyncio.gather(fetching, return_exceptions=True)
            if release is None:
                arrival.close()
            else:
                await release()
            raise

    @classmethod
    async def rehearse(
        cls,
        *,
        mounts: int,
        places: Sequence[tuple[str, int]],
        plan: bytes,
        facts: Mapping[str, Any],
        memory_fd: int,
        piece: int,
        page_faults: PageFaults,
    ) -> Resident:
        """As `load`, of an image that is not stored yet; every page that can come late does, and so can be noted.

        Raises:
            RestoreRefused, RestoreFailed: as `load`.
        """
        arrival = Arrival.complete(memory_fd, piece)
        try:
            template = await Template.load(
                mounts=mounts, places=places, plan=plan, memory_fd=memory_fd, facts=facts, fill=False
            )
        except BaseException:
            arrival.close()
            raise
        resident = cls(template, arrival, page_faults)
        try:
            for offset, size in _never_late(plan):
                await template.fill(offset, size)
            await template.settle()
            resident._begin_serving(plan, read_extents(plan))
        except BaseException:
            await resident.close()
            raise
        return resident

    async def _settle(self, eager: int, fetching: asyncio.Task[None], plan: bytes) -> None:
        """Fill the template as the front of the image arrives."""
        arrival = self._arrival
        extents = read_extents(plan)
        placing = Placing(extents, eager, arrival.piece, self.template.write)
        arrival.place = placing.place
        due = set(_pieces(0, eager, arrival.piece))
        moved = asyncio.Event()
        arrival.listeners.append(lambda _: moved.set())
        fetching.add_done_callback(lambda _: moved.set())
        while due:
            if here := due & arrival.arrived:
                due -= here
                await self._fill_front(here, eager)
            elif fetching.done():
                break
            else:
                moved.clear()
                await moved.wait()
        await fetching
        arrival.place = None
        if due:
            raise RestoreFailed("The memory image is shorter than its manifest says.", step="image")
        await self.template.settle()
        self._eager = eager
        self._learning = _LEARNING if self.template.size > _SMALL else 0
        self.template.expect_writes(self._writes.ranges)
        if sum(size for _, size, _ in extents) <= eager:
            self._complete = True
            self._expect_usual_writes()
            return
        self._begin_serving(plan, extents)
        self._rest = asyncio.create_task(self._fetch_rest(self.template.facts.get("refined_pieces", ())))

    async def _fill_front(self, pieces: set[int], eager: int) -> None:
        """Pieces that came by way of the memfd are filled in; the others are in the template already."""
        placed = pieces & self._arrival.placed
        size = self._arrival.piece
        self.template.filled([(first * size, count * size) for first, count in _runs(placed)])
        for first, count in _runs(pieces - placed):
            await self.template.fill(first * size, min(eager, (first + count) * size) - first * size)

    def _begin_serving(self, plan: bytes, extents: Sequence[Extent]) -> None:
        self._extents, self._lazy = sorted(extents), sorted(read_lazy_ranges(plan))
        assert self._page_faults is not None
        arrival = self._arrival
        late = [extent for extent in self._extents if extent[2] >= self._eager]
        self._image = self._page_faults.add_image(arrival.memory, arrival.size, late, arrival.piece, self._fetch_one)
        arrival.listeners.append(self._announce)
        self._page_faults.arrived(self._image, sorted(arrival.arrived))

    def _announce(self, piece: int) -> None:
        if self._page_faults is not None and self._page_faults.alive:
            self._page_faults.arrived(self._image, [piece])

    def _fetch_one(self, piece: int) -> None:
        """A clone waits for this piece: it is fetched beside the others, ahead of those that nobody waits for."""
        task = asyncio.ensure_future(self._arrival.fetch([piece]))
        task.add_done_callback(self._fetched)

    async def _fetch_rest(self, refined: Sequence[int]) -> None:
        """First what earlier calls touched, while the clone runs; then all else, a few pieces at a time, so that one
        that a clone waits for is never behind many others.

        All else not at once: the first call is under way, and what it needs of the machine nobody should take from it.
        """
        try:
            await self._arrival.fetch(refined)
            await asyncio.sleep(_REST_AFTER_S)
            for first in range(0, self._arrival.count, _BATCH):
                await self._arrival.fetch(range(first, min(first + _BATCH, self._arrival.count)))
        except ThawError as error:
            _logger.warning("A part of a memory image is not there yet: %s", error)
            return
        if not self._learning:
            await self._fill_rest()
        self._expect_usual_writes()

    def _expect_usual_writes(self) -> None:
        """What calls write is copied for clones beforehand, now that none would have to wait for it to arrive."""
        if self.template.alive:
            self.template.expect_writes(self.template.facts.get("written_by_calls", self._writes.ranges))

    async def _fill_rest(self) -> None:
        """Put the rest of a small image into the template, too: its clones then never wait for a page."""
        end = max(offset + size for _, size, offset in self._extents)
        for offset in range(self._eager, end, _PORTION):
            try:
                await self.template.fill(offset, min(_PORTION, end - offset))
            except RestoreFailed:
                return  # the template has ended, which whoever asks for a clone is told
        self._complete = True
        self.on_complete()

    def _fetched(self, task: asyncio.Future[None]) -> None:
        """A piece that cannot be had ends everything that may wait for it; nobody ever runs on a wrong page."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        _logger.error("A piece of a memory image cannot be had, so environments that wait for it end: %s", error)
        if self._page_faults is not None:
            self._page_faults.stop(self._image)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes: the image, and what the template holds of it."""
        image = self.template.size - len(self._arrival.placed) * self._arrival.piece
        return image + (self.template.size if self._complete else self._eager)

    @property
    def usable(self) -> bool:
        """Whether clones can be made from it."""
        lazy = not self._complete
        return self.template.alive and not (lazy and (self._page_faults is None or not self._page_faults.alive))

    @property
    def is_final(self) -> bool:
        """Whether clones are as they will be from now on: nothing more is filled in, or learnt from calls."""
        return self._complete or (self.template.size > _SMALL and self._learning <= 0)

    async def clone(self, request: Request, *, record: bool = False, ahead: bool = False) -> tuple[Cloned, int]:
        """A clone, and its number for `touched` (0 where it lacks nothing); for `ahead` see `Template.clone`.

        Raises:
            RestoreFailed: the template or the page-fault server is gone, or could not fork into the sandbox.
        """
        if not self.usable:
            raise RestoreFailed("What serves this snapshot ended: it is loaded again.", step="page-fault server")
        if self._complete:
            return await self.template.clone(request, ahead=ahead), 0
        cloned = await self.template.clone(request, lazy=True, watched=record, ahead=ahead)
        if cloned.faults < 0:
            return cloned, 0
        assert self._page_faults is not None
        self._live += 1
        try:
            number = self._page_faults.serve(
                self._image, cloned.faults, cloned.pidfd, record=record, ended=lambda pages: self._ended(pages, record)
            )
        except RestoreFailed:
            await _reap(cloned)
            raise
        if not record and self._learning:
            self._look_later(number)
        return cloned, number

    async def observed(self, cloned: Cloned, number: int) -> Observed:
        """What a recorded clone touched and wrote so far. Raises RestoreFailed where it has ended."""
        assert self._page_faults is not None
        noted = await self._page_faults.touched(number) if number else []
        fixed = [(address, size) for address, size, _ in self._extents if not _in_ranges(address, self._lazy)]
        try:
            written = set(pages_of(await asyncio.to_thread(written_ranges, cloned.pid, fixed)))
        except (FileNotFoundError, ProcessLookupError) as error:
            raise RestoreFailed("The clone of the rehearsal ended by itself.", step="rehearsal") from error
        written.update(page - 1 for page in noted if page & 1)
        return Observed([page & ~1 for page in noted], as_ranges(written))

    def answered(self, cloned: Cloned, unchanged: Callable[[], bool]) -> None:
        """A clone's first call is over: what it wrote is copied for later clones before their call begins.

        `unchanged` says whether it has done nothing since.
        """
        if not (self._writes.complete or self._closed or "written_by_calls" in self.template.facts):
            self._in_background(self._learn_writes(cloned.pid, unchanged))

    async def _learn_writes(self, pid: int, unchanged: Callable[[], bool]) -> None:
        try:
            written = await asyncio.to_thread(lambda: written_ranges(pid, private_ranges(pid)))
        except OSError:
            return  # it ended with its call
        if unchanged() and self.template.alive and self._writes.observe(written) and self._writes.complete:
            # Not earlier: what was copied for a clone cannot be told from what it wrote itself.
            self.template.expect_writes(self._writes.ranges)
            self.on_learnt({"written_by_calls": self._writes.ranges})

    def _look_later(self, number: int) -> None:
        """See what a call touched, when it is likely to be over: a warm environment may live on for long."""
        self._loop.call_later(_LOOK_AFTER_S, lambda: self._in_background(self._look(number)))

    async def _look(self, number: int) -> None:
        if self.usable and not self._closed and self._page_faults is not None:
            await self._learn(await self._page_faults.touched(number))

    def _ended(self, addresses: list[int], recorded: bool) -> None:
        self._live -= 1
        if not recorded and self._learning and not self._closed:
            self._in_background(self._learn(addresses))

    async def _learn(self, addresses: list[int]) -> None:
        """Pages that a call waited for are in the template from now on, and come first when it is loaded again."""
        try:
            for offset, size in self._portions(addresses):
                await self.template.fill(offset, size)
        except RestoreFailed as error:
            _logger.warning("What calls touch could not be added to a template: %s", error)
            return
        self._touched.update(addresses)
        self._learning -= 1
        if self._learning == 0 and self._touched and "refined_pieces" not in self.template.facts:
            self.on_learnt({"refined_pieces": self._pieces_of(self._touched)})

    def _portions(self, addresses: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Offset and size in the image of what was given with the pages at these addresses, each part once."""
        starts = [address for address, _, _ in self._extents]
        for block in dict.fromkeys(address - address % BLOCK for address in addresses):
            index = max(0, bisect_right(starts, block) - 1)
            for start, size, offset in self._extents[index:]:
                if start >= block + BLOCK:
                    break
                first, last = max(start, block), min(start + size, block + BLOCK)
                if first < last and offset >= self._eager and first not in self._filled:
                    self._filled.add(first)
                    yield offset + first - start, last - first

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pieces_of(self, addresses: Iterable[int]) -> list[int]:
        piece = self._arrival.piece
        wanted = sorted(addresses)
        found: set[int] = set()
        for start, size, offset in self._extents:
            found.update((offset + each - start) // piece for each in wanted if start <= each < start + size)
        return sorted(found)

    async def close(self) -> None:
        """End the template and release the image; clones that run get the rest of it first. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._rest is not None:
            if not self._live:
                self._rest.cancel()
            await asyncio.gather(self._rest, return_exceptions=True)
        await self.template.close()
        if self._image and self._page_faults is not None:
            self._page_faults.forget(self._image)
        self._arrival.close()


async def _reap(cloned: Cloned) -> None:
    """End a clone that nobody will serve; its sandbox cannot end before it has been waited for."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PIDFD, cloned.pidfd, os.WEXITED)
    os.close(cloned.pidfd)


def _never_late(plan: bytes) -> Iterator[tuple[int, int]]:
    """Offset and size of the parts of the image outside the lazy ranges, neighbours as one."""
    ranges = sorted(read_lazy_ranges(plan))
    begin = end = 0
    for address, size, offset in sorted(read_extents(plan), key=lambda extent: extent[2]):
        if _in_ranges(address, ranges):
            continue
        if offset == end:
            end = offset + size
            continue
        if end > begin:
            yield begin, end - begin
        begin, end = offset, offset + size
    if end > begin:
        yield begin, end - begin


def _in_ranges(address: int, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether an address is in one of the ranges (address, size; ascending)."""
    index = bisect_right(ranges, address, key=lambda each: each[0]) - 1
    return index >= 0 and address < sum(ranges[index])


def _pieces(start: int, end: int, piece: int) -> range:
    return range(start // piece, -(-end // piece)) if end > start else range(0)


def _runs(pieces: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of neighbouring pieces as (first, count), ascending."""
    runs: list[tuple[int, int]] = []
    for piece in sorted(pieces):
        if runs and sum(runs[-1]) == piece:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((piece, 1))
    return runs
