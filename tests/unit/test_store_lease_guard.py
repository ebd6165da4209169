"""Leases of savers and sweepers in a bucket, over a folder of leases whose clock the test moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from thaw.errors import StoreUnavailable
from thaw.store import lease_guard
from thaw.store.lease_guard import LEASE_S, RENEW_S, LeaseGuard


class Folder:
    """What a bucket says of its leases; `now` is the bucket's clock."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        self.written: dict[str, datetime] = {}

    async def put(self, id: str, content: bytes) -> None:
        await asyncio.sleep(0)
        self.written[id] = self.now

    async def delete(self, id: str) -> None:
        await asyncio.sleep(0)
        self.written.pop(id, None)

    async def listed(self) -> list[tuple[str, datetime]]:
        await asyncio.sleep(0)
        return list(self.written.items())


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(lease_guard, "PAUSE_S", 0.001)
    return Folder()


async def test_savers_share_and_a_sweeper_is_alone(folder: Folder) -> None:
    guard, other = LeaseGuard(folder), LeaseGuard(folder)
    order: list[str] = []

    async def sweep() -> None:
        async with other.sweeping():
            order.append("sweeping")

    async with guard.saving(), other.saving():
        sweeper = asyncio.create_task(sweep())
        await asyncio.sleep(0.05)
        order.append("saved")
    await asyncio.wait_for(sweeper, 10)
    assert order == ["saved", "sweeping"]
    assert folder.written == {}


async def test_the_lease_of_a_dead_worker_holds_nobody_up_for_ever(folder: Folder) -> None:
    await folder.put("saving-of-somebody-dead", b"")
    folder.now += timedelta(seconds=LEASE_S + 1)
    async with asyncio.timeout(10):
        async with LeaseGuard(folder).sweeping():
            assert "saving-of-somebody-dead" not in folder.written


async def test_a_lease_that_is_renewed_is_waited_for(folder: Folder) -> None:
    await folder.put("saving-of-somebody-slow", b"")
    folder.now += timedelta(seconds=LEASE_S - 1)
    entered = asyncio.Event()

    async def sweep() -> None:
        async with LeaseGuard(folder).sweeping():
            entered.set()

    sweeper = asyncio.create_task(sweep())
    await asyncio.sleep(0.05)
    assert not entered.is_set()
    await folder.put("saving-of-somebody-slow", b"")  # renewed
    folder.now += timedelta(seconds=LEASE_S - 1)
    await asyncio.sleep(0.05)
    assert not entered.is_set()
    await folder.delete("saving-of-somebody-slow")
    await asyncio.wait_for(sweeper, 10)
    assert entered.is_set()


async def test_of_two_sweepers_one_waits_for_the_other(folder: Folder) -> None:
    inside = most = 0

    async def sweep() -> None:
        nonlocal inside, most
        async with LeaseGuard(folder).sweeping():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.005)
            inside -= 1

    await asyncio.wait_for(asyncio.gather(*(sweep() for _ in range(4))), 30)
    assert (inside, most) == (0, 1)


async def test_a_saver_whose_lease_ran_out_meanwhile_has_not_saved(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = [0.0]
    monkeypatch.setattr(lease_guard.time, "monotonic", lambda: moments[0])

    async def save() -> None:
        async with LeaseGuard(folder).saving():
            moments[0] = LEASE_S - RENEW_S + 1

    sentence = "^The origin did not answer for so long that another worker may have swept it meanwhile: publish again.$"
    with pytest.raises(StoreUnavailable, match=sentence):
        await save()
    assert folder.written == {}
