"""What goes wrong between a plan and a clone ends in one sentence, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from matrix import harness
from thaw.errors import RestoreFailed
from thaw.restore import Cloned, Template
from thaw.snapshot import Capture
from thaw.snapshot.plan import HEADER_SIZE

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes and ptrace need root")]
PROGRAM = "eventfd"
FOUND = {"found": [[42], [1, 1, 1], (1 << 40) + 5]}


def children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}


def memory_files() -> list[str]:
    links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return [link for link in links if link.startswith("/memfd:")]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    harness.probe_folder()
    before = (harness.descriptor_count(), children(), memory_files())
    yield
    assert (harness.descriptor_count(), children(), memory_files()) == before


@dataclass
class Bench:
    """One frozen program, and what it takes to thaw it."""

    ground: harness.Ground
    folder: Path
    capture: Capture
    stack: AsyncExitStack

    async def template(self, **changes: bytes) -> Template:
        template = await harness.template_of(self.ground, replace(self.capture, **changes))
        self.stack.push_async_callback(template.close)
        return template

    async def box(self, name: str) -> harness.Box:
        return await self.stack.enter_async_context(harness.box(self.ground, self.folder, name))


@pytest_asyncio.fixture
async def bench(tmp_path: Path, _nothing_left: None) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        on = stack.enter_context(harness.ground())
        original = await stack.enter_async_context(harness.box(on, tmp_path, "original"))
        await harness.start(original, PROGRAM)
        capture = await harness.frozen(original)
        stack.callback(os.close, capture.memory)
        yield Bench(on, tmp_path, capture, stack)


def request(box: harness.Box, pidfd: int | None = None) -> harness.CloneRequest:
    return harness.request_of(box, pidfd)


async def reaped(cloned: Cloned) -> None:
    await asyncio.to_thread(os.waitid, os.P_PIDFD, cloned.pidfd, os.WEXITED)
    os.close(cloned.pidfd)


def other_text(plan: bytes, text: str) -> bytes:
    """The plan with the first letter of a text (which a step points to) changed."""
    wanted = b"\0" + text.encode() + b"\0"
    assert plan.count(wanted) == 1
    return plan.replace(wanted, b"\0!" + wanted[2:])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("magic", "Restoring stopped at the restore plan, which has another version or length (Exec format error)."),
        ("half", "Restoring stopped at the restore plan, which has another version or length (Exec format error)."),
        ("stub", "Restoring stopped at the restore plan, which is too short (Exec format error)."),
        ("empty", "Restoring stopped at the restore plan, which is too short (Exec format error)."),
        ("special", "Restoring stopped at the restore plan, whose counts are out of bounds (Exec format error)."),
    ],
)
async def test_a_damaged_plan_is_refused_and_its_template_ends(bench: Bench, name: str, sentence: str) -> None:
    plan = bench.capture.plan
    damaged = {
        "magic": b"X" + plan[1:], "half": plan[: len(plan) // 2],
        "stub": plan[: HEADER_SIZE - 1], "empty": b"", "special": plan[:28] + b"\t" + plan[29:],
    }[name]  # fmt: skip
    before = children()
    with pytest.raises(RestoreFailed) as failure:
        await bench.template(plan=damaged)
    assert str(failure.value) == sentence
    assert children() == before


async def test_a_step_that_fails_in_the_template_is_named(bench: Bench) -> None:
    path = harness.interpreter()[1][0]
    path = next(link for link, _, _ in bench.capture.facts["mapped_files"] if Path(link).name == Path(path).name)
    with pytest.raises(RestoreFailed) as failure:
        await bench.template(plan=other_text(bench.capture.plan, path))
    assert str(failure.value) == f"Restoring stopped at open of {path} (No such file or directory)."
    assert failure.value.errno == 2


async def test_a_short_memory_image_is_noticed(bench: Bench) -> None:
    os.ftruncate(bench.capture.memory, bench.capture.memory_size // 2 // 4096 * 4096)
    template = await bench.template()
    with pytest.raises(RestoreFailed) as failure:
        await template.clone(request(await bench.box("clone")))
    assert str(failure.value) == (
        "Restoring stopped at a clone of a template that is not filled (Resource temporarily unavailable)."
    )
    assert template.alive


async def test_a_clone_that_fails_says_where_and_the_template_goes_on(bench: Bench) -> None:
    template = await bench.template(plan=other_text(bench.capture.plan, "/var/task"))
    for name in ("first", "second"):
        cloned = await template.clone(request(await bench.box(name)))
        await reaped(cloned)
        assert str(cloned.failure()) == "Restoring stopped at chdir to /var/task (No such file or directory)."
        assert template.alive


async def test_a_sandbox_that_is_gone_costs_only_its_own_clone(bench: Bench) -> None:
    template, box = await bench.template(), await bench.box("clone")
    gone = os.posix_spawn("/bin/true", ["true"], {})
    pidfd = os.pidfd_open(gone)
    bench.stack.callback(os.close, pidfd)
    await asyncio.to_thread(os.waitid, os.P_PIDFD, pidfd, os.WEXITED)
    with pytest.raises(RestoreFailed) as failure:
        await template.clone(request(box, pidfd))
    assert str(failure.value) == "Restoring stopped at setns to the sandbox's process numbers (No such process)."
    assert template.alive
    _, found = await harness.thawed(template, box, bench.capture.disk)
    assert found == FOUND


async def test_a_process_number_that_is_taken_costs_only_its_own_clone(bench: Bench) -> None:
    template, box = await bench.template(), await bench.box("clone")
    with pytest.raises(RestoreFailed) as failure:
        await template.clone(replace(request(box), pid=1))
    assert str(failure.value) == "Restoring stopped at clone3 of the clone (File exists)."
    _, found = await harness.thawed(template, box, bench.capture.disk)
    assert found == FOUND


async def test_a_template_that_is_killed_fails_what_waits_and_what_comes(bench: Bench) -> None:
    template, box = await bench.template(), await bench.box("clone")
    os.kill(template.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(template.clone(request(box)))
    await asyncio.sleep(0)
    os.kill(template.pid, signal.SIGKILL)
    with pytest.raises(RestoreFailed) as failure:
        await waiting
    assert str(failure.value) == "The template process ended."
    assert not template.alive
    with pytest.raises(RestoreFailed) as late:
        await template.clone(request(box))
    assert str(late.value).startswith("The template process is gone (")


async def test_more_requests_at_once_than_the_control_socket_holds(bench: Bench) -> None:
    template, box = await bench.template(), await bench.box("clone")
    numbers = range(1000, 1120)
    wanted = (replace(request(box), pid=number) for number in numbers)
    clones = await asyncio.gather(*(template.clone(each) for each in wanted))
    assert [cloned.number for cloned in clones] == list(numbers)
    assert len({cloned.pid for cloned in clones}) == len(numbers)
    for cloned in clones:
        signal.pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
        await reaped(cloned)


async def test_clones_outlive_their_template(bench: Bench) -> None:
    template, box = await bench.template(), await bench.box("clone")
    cloned = await template.clone(request(box))
    await template.close()
    assert not template.alive
    signal.pidfd_send_signal(cloned.pidfd, 0)
    signal.pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
    await reaped(cloned)


async def test_many_round_trips_leave_nothing(tmp_path: Path) -> None:
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert await harness.round_trip(PROGRAM, folder) == [FOUND] * 3
