"""`thaw snapshot`: what people see of the store, and its exit status."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stores import aws, new_bucket
from thaw.chunk import CHUNK_SIZE
from thaw.config import read_settings
from thaw.store import open_store

FACTS = {"eager_bytes": CHUNK_SIZE, "refined_pieces": [2]}


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = os.memfd_create("memory")
    os.pwrite(descriptor, os.urandom(4 * CHUNK_SIZE), 0)
    os.ftruncate(descriptor, 8 * CHUNK_SIZE)
    yield descriptor
    os.close(descriptor)


async def publish(state: Path, memory: int, origin: str | None = None) -> set[str]:
    store = open_store(read_settings(state_dir=state, origin=origin))
    for name, plan in (("one", b"first plan"), ("two", b"second plan")):
        manifest = await store.snapshots.save(name, plan, memory, b"", FACTS)
    store.close()
    return manifest.chunk_ids()


def thaw(state: Path, *arguments: str, status: int = 0, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "thaw.cli", "snapshot", *arguments, "--state-dir", str(state)],
        env=os.environ | variables, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


async def test_ls_tells_sizes_sharing_and_working_set(tmp_path: Path, memory: int) -> None:
    await publish(tmp_path, memory)
    shown = thaw(tmp_path, "ls")
    assert "2 snapshots, 2.0 MiB of chunks in the origin, each counted once." in shown
    row = next(line for line in shown.splitlines() if line.startswith("one"))
    assert [word.strip() for word in row.split("  ") if word.strip()][2:] == [
        "4.0 MiB", "2.0 MiB", "100 %", "1.0 MiB (50 %)",
    ]  # fmt: skip


async def test_show_tells_which_tiers_hold_it_and_how_long_each_takes(tmp_path: Path, memory: int) -> None:
    with aws() as endpoint:
        origin = new_bucket(endpoint)
        await publish(tmp_path, memory, origin)
        shown = thaw(tmp_path, "show", "one", "--measure", THAW_ORIGIN=origin, THAW_L1_BYTES="100000000")
    assert "sealed under the AWS-managed key (here: Thaw's own key file, key-file:" in shown
    assert "l1  0 of 5 chunks (0 %), not all of the working set" in shown
    assert "l3  5 of 5 chunks (100 %), working set read and opened in " in shown


async def test_verify_opens_every_chunk(tmp_path: Path, memory: int) -> None:
    ids = sorted(await publish(tmp_path, memory))
    assert "all 5 chunks open" in thaw(tmp_path, "verify")
    chunks = tmp_path / "origin" / "chunks"
    (chunks / ids[0][:2] / ids[0]).unlink()
    assert "1 chunk missing, 0 chunks damaged: call the version" in thaw(tmp_path, "verify", "two", status=1)
    (tmp_path / "origin" / "manifests" / "on" / "one").write_bytes(b"THWM")
    assert "The manifest of snapshot one does not open" in thaw(tmp_path, "verify", status=1)


async def test_a_name_without_a_snapshot_is_told_in_a_sentence(tmp_path: Path, memory: int) -> None:
    await publish(tmp_path, memory)
    for command in ("show", "inspect", "verify"):
        for name in ("three", "one:3", "no/name"):
            assert thaw(tmp_path, command, name, status=1) == (
                f"thaw: There is no snapshot of {name}, by that name or key: `thaw snapshot ls` shows those there "
                "are.\n"
            )


async def test_gc_removes_what_no_manifest_names(tmp_path: Path, memory: int) -> None:
    await publish(tmp_path, memory)
    (tmp_path / "origin" / "manifests" / "tw" / "two").unlink()
    assert "Removed 1 chunk that no snapshot needs." in thaw(tmp_path, "gc")
    assert "Removed 0 chunks" in thaw(tmp_path, "gc")
    assert "sound" in thaw(tmp_path, "verify", "one")
