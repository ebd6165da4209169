"""The folder store under trouble: killed writers, full disks, folders that are not usable."""

import asyncio
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from thaw.errors import StoreFull, StoreUnavailable
from thaw.store import Folder

ID = "ab" * 32
SIZE = 400_000

WRITER = f"""
import asyncio, hashlib, os, sys
from pathlib import Path
from thaw.store import Folder

async def main():
    store = Folder(Path(sys.argv[1]), limit=1 << 20)
    print("ready", flush=True)
    while True:
        content = os.urandom({SIZE})
        await asyncio.gather(*(store.put(hashlib.sha256(content[i:]).hexdigest(), content[i:]) for i in range(4)))

asyncio.run(main())
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Folder]:
    opened = Folder(tmp_path / "origin" / "chunks", limit=1 << 20)
    yield opened
    opened.close()


def start_writer(root: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


async def test_kill_9_in_the_middle_of_writing_leaves_only_whole_files(store: Folder) -> None:
    for delay in (0.02, 0.05, 0.08):
        writer = start_writer(store.root)
        await asyncio.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        await asyncio.to_thread(writer.communicate)
    names = await store.names()
    for name in names:
        assert hashlib.sha256(await store.get(name)).hexdigest() == name
    assert names, "the writers wrote nothing"


async def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(store: Folder) -> None:
    incoming = store.root / "incoming"
    incoming.mkdir(parents=True)
    long_ago = time.time() - 3600
    for name in ("dead", "living", "young"):
        (incoming / name).write_bytes(b"half")
    os.utime(incoming / "dead", (long_ago, long_ago))
    os.utime(incoming / "living", (long_ago, long_ago))
    with open(incoming / "living") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        store.remove_abandoned()
    assert sorted(part.name for part in incoming.iterdir()) == ["living", "young"]


async def test_nobody_else_may_read(store: Folder, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await store.put(ID, b"secret")
    finally:
        os.umask(before)
    entries = [tmp_path / "origin", *(tmp_path / "origin").rglob("*")]
    assert len(entries) == 5
    for entry in entries:
        assert entry.stat().st_mode & 0o077 == 0, entry


async def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "thaw-test", str(root)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    store = Folder(root / "chunks", limit=1 << 20)
    try:
        await store.put("first", bytes(SIZE))
        await store.put("second", bytes(SIZE))
        with pytest.raises(StoreFull) as caught:
            await store.put("third", bytes(SIZE))
        assert str(caught.value) == (
            f"Thaw cannot write to {root / 'chunks'}, because no space left on device: "
            "free space there, or set THAW_ORIGIN to a folder on another disk."
        )
        assert sorted(await store.names()) == ["first", "second"]
        assert list((root / "chunks" / "incoming").iterdir()) == []
        await store.delete("first")
        await store.put("third", bytes(SIZE))
    finally:
        store.close()
        subprocess.run(["umount", str(root)], check=True)


async def test_an_unusable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "chunks").write_text("a file, not a folder")
    store = Folder(tmp_path / "chunks", limit=1 << 20)
    with pytest.raises(StoreUnavailable) as caught:
        await store.put(ID, b"content")
    assert str(caught.value).startswith(f"Thaw cannot write to {tmp_path / 'chunks'}, because ")
    assert str(caught.value).endswith(": check that the disk is mounted and that this user may use the folder.")
    store.close()


async def test_a_link_in_the_place_of_a_chunk_is_not_followed(store: Folder, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"not ours")
    (store.root / ID[:2]).mkdir(parents=True)
    (store.root / ID[:2] / ID).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match="too many levels of symbolic links"):
        await store.get(ID)
