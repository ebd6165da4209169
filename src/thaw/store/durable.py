"""Files that survive a crash of the machine: written, flushed to the disk, and only then given their name."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
ABANDONED_S = 60.0


def replace_file(
    incoming: Path, path: Path, content: bytes | bytearray | memoryview, *, durable: bool = True, new: bool = False
) -> None:
    """Puts `content` at `path`, whole or not at all, by way of a file in the folder `incoming` (same disk).

    The file is locked while it is written, so that `remove_abandoned` can tell it from a dead writer's. Without
    `durable` it survives the process, not the machine. `new` raises FileExistsError where `path` is there already.
    """
    make_folder(incoming)
    part = incoming / secrets.token_hex(8)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        write_fully(descriptor, content)
        if durable:
            os.fsync(descriptor)
        make_folder(path.parent)
        if new:
            os.link(part, path)
            part.unlink()
        else:
            part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    if durable:
        sync_folder(path.parent)


def remove_abandoned(incoming: Path, older_than_s: float = ABANDONED_S) -> None:
    """Removes from `incoming` what no living process is writing, on this machine or in another container of it."""
    if not incoming.is_dir():
        return
    for part in incoming.iterdir():
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if time.time() - os.fstat(descriptor).st_mtime >= older_than_s and _lock_is_free(descriptor):
                part.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def write_fully(descriptor: int, content: bytes | bytearray | memoryview) -> None:
    """Writes all of `content`; one write may take only a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def make_folder(folder: Path) -> None:
    """Makes `folder` and its missing parents, for this user alone."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes what was renamed or linked into `folder` survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
