"""Snapshots that can no longer be used: calls start afresh, say why, and a new snapshot takes the place of the old."""

from __future__ import annotations

import os
import shutil
import urllib.request
from pathlib import Path

import pytest

from serving import SHARED_RUNTIMES, Served, served, share_runtimes
from thaw.runtimes.installation import COMPLETE
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = """
import random
from pathlib import Path
Path("/tmp/from-init").write_text("kept")
started = random.random()
def handler(event, context):
    return {"event": event, "started": started, "tmp": Path("/tmp/from-init").read_text()}
"""
SNAP_START = {"ApplyOn": "PublishedVersions"}


def publish(running: Served) -> tuple[str, float]:
    """A version of the function f and the number that its Init drew."""
    running.create("f", SOURCE, SnapStart=SNAP_START)
    version = running.publish("f")
    reply = running.call("f", 0, version)
    assert "Restore Duration" in reply.log
    return version, reply.payload["started"]


def assert_starts_afresh_and_is_renewed(running: Served, version: str, old: float, reason: str) -> None:
    reply = running.call("f", 1, version)
    assert reply.payload["event"] == 1
    assert "Init Duration" in reply.log
    assert reason in running.log("f")
    until_true(lambda: restored(running, version) not in (None, old), "a new snapshot serves calls")
    found = running.client.get_function_configuration(FunctionName="f", Qualifier=version)
    assert (found["State"], found["SnapStart"]["OptimizationStatus"]) == ("Active", "On")


def restored(running: Served, version: str) -> float | None:
    """What the Init of the snapshot drew from which a call was served; None where it started afresh."""
    reply = running.call("f", 2, version)
    assert reply.payload["tmp"] == "kept"
    started: float = reply.payload["started"]
    return started if "Restore Duration" in reply.log else None


def test_every_clone_has_what_init_left(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        version, started = publish(running)
        assert {restored(running, version) for _ in range(5)} == {started}


def test_the_first_call_finds_its_snapshot_in_memory_and_reads_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state, idle_timeout_s=0) as running:
        running.create("f", SOURCE, SnapStart=SNAP_START)
        version = running.publish("f")
        shutil.rmtree(state / "origin" / "chunks")
        assert restored(running, version) is not None
        with urllib.request.urlopen(f"{running.process.url}/metrics") as answer:
            figures = answer.read().decode().splitlines()
        assert 'thaw_chunk_hits_total{tier="l3"} 0.0' in figures
        assert 'thaw_chunk_writes_total{tier="l3"} 0.0' not in figures


def test_a_damaged_snapshot_is_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state, idle_timeout_s=0) as running:
        version, started = publish(running)
    chunks = [path for path in (state / "origin" / "chunks").rglob("*") if path.is_file()]
    for chunk in chunks:
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2] ^= 1
        chunk.write_bytes(content)
    with served(state, idle_timeout_s=0) as running:
        assert_starts_afresh_and_is_renewed(running, version, started, "The snapshot could not be restored: ")


def test_a_lost_snapshot_is_replaced(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state, idle_timeout_s=0) as running:
        version, started = publish(running)
    shutil.rmtree(state / "origin" / "manifests")
    with served(state, idle_timeout_s=0) as running:
        assert_starts_afresh_and_is_renewed(running, version, started, "The snapshot could not be restored: ")


def test_a_changed_runtime_makes_the_snapshot_stale(tmp_path: Path) -> None:
    state = tmp_path / "state"
    share_runtimes(state)
    with served(state) as running:
        running.create("warm-up", SOURCE)  # the runtime's client is there now
    (state / "runtimes").unlink()
    shutil.copytree(SHARED_RUNTIMES, state / "runtimes")
    with served(state, idle_timeout_s=0) as running:
        version, started = publish(running)
        for listed in (state / "runtimes").glob(f"*/{COMPLETE}"):
            listed.write_text(listed.read_text() + "patched==1\n")
        changed = "The snapshot cannot be used: The runtime"
        assert_starts_afresh_and_is_renewed(running, version, started, changed)


def test_deleting_a_function_deletes_its_snapshot_and_code(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with served(state) as running:
        publish(running)
        folders = [state / "origin" / name for name in ("chunks", "manifests", "code")]
        kept = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        assert len(kept) >= len(folders)
        running.client.delete_function(FunctionName="f")
        until_true(lambda: not [path for path in kept if path.exists()], f"the origin is empty: {kept}")
        assert not list((state / "code").iterdir())


LOOP_SOURCE = """
import asyncio, threading
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
async def answer(event):
    await asyncio.sleep(0.001)
    return {"event": event, "own_loop": asyncio.get_running_loop() is loop}
asyncio.run_coroutine_threadsafe(answer(0), loop).result()
def handler(event, context):
    return asyncio.run_coroutine_threadsafe(answer(event), loop).result(5)
"""


def test_an_event_loop_in_a_thread_goes_on_in_clones(tmp_path: Path) -> None:
    with served(tmp_path / "state", idle_timeout_s=0) as running:
        running.create("f", LOOP_SOURCE, SnapStart=SNAP_START)
        version = running.publish("f")
        for number in range(3):
            reply = running.call("f", number, version)
            assert "Restore Duration" in reply.log
            assert reply.payload == {"event": number, "own_loop": True}
