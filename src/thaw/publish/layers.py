"""Layers: unpacked once per content, and merged into one folder per combination, which environments mount at /opt.

::

    state_dir/layers/<sha256 of the zip>/              one layer, as CodeFolders unpacks it
    state_dir/layers/merged/<digest of the list>/opt/  several, later ones over earlier ones
    state_dir/layers/merged/<digest>/parts             the list: one SHA-256 a line

All of it is a cache: the zips in the object store are what counts. Merged folders share their files with the layers'
own by hard links, so that a layer that many functions use is on the disk, and in the page cache, once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from thaw.publish.code import CodeFolders

MERGED = "merged"


class LayerFolders:
    """The layers of this worker; `read` gives the zip of a key from the object store."""

    def __init__(self, root: Path, read: Callable[[str], Awaitable[bytes]]) -> None:
        self._layers = CodeFolders(root, read)
        self._merged = root / MERGED
        self._merging: dict[str, asyncio.Task[Path]] = {}

    def prepare(self) -> None:
        """Makes the folders and removes what an interrupted run left half done. Blocks: call it at start."""
        self._layers.prepare()
        self._merged.mkdir(exist_ok=True, mode=0o755)
        for entry in self._merged.iterdir():
            if entry.name.startswith("."):
                shutil.rmtree(entry)

    async def add(self, package: bytes) -> Path:
        """Unpacks an uploaded layer. Raises ServiceError where it is no zip that may be unpacked."""
        return await self._layers.add(package)

    async def folder(self, keys: Sequence[str]) -> Path | None:
        """The folder for /opt of layers in their order; None where there are none. Raises StoreError, ServiceError."""
        if not keys:
            return None
        if len(keys) == 1:
            return await self._layers.folder(keys[0])
        name = hashlib.sha256("\n".join(keys).encode()).hexdigest()
        task = self._merging.get(name)
        if task is None:
            task = self._merging[name] = asyncio.create_task(self._merge(name, keys))
            task.add_done_callback(lambda _: self._merging.pop(name, None))
        return await asyncio.shield(task)

    async def size(self, key: str) -> int:
        """Bytes of one layer, unpacked."""
        return await self._layers.size(key)

    async def remove(self, key: str) -> None:
        """Deletes the folder of a layer that nothing names any more, and every merged folder with it."""
        await asyncio.to_thread(self._remove_merged, key)
        await self._layers.remove(key)

    async def _merge(self, name: str, keys: Sequence[str]) -> Path:
        path = self._merged / name
        if not path.is_dir():
            sources = [await self._layers.folder(key) for key in keys]
            await asyncio.to_thread(self._merge_atomically, sources, keys, path)
        return path / "opt"

    def _merge_atomically(self, sources: Sequence[Path], keys: Sequence[str], path: Path) -> None:
        part = self._merged / f".{secrets.token_hex(8)}"
        try:
            (part / "opt").mkdir(parents=True)
            (part / "parts").write_text("\n".join(keys))
            for source in sources:
                lay_over(source, part / "opt")
            part.rename(path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _remove_merged(self, key: str) -> None:
        for entry in self._merged.iterdir():
            if not entry.name.startswith(".") and key in (entry / "parts").read_text().split("\n"):
                doomed = self._merged / f".{secrets.token_hex(8)}"
                entry.rename(doomed)
                shutil.rmtree(doomed)


def lay_over(source: Path, target: Path) -> None:
    """Links every file of the folder `source` into the folder `target`; what is there under its name gives way.

    Nothing is ever written through a link: one that stands where a folder has to be is replaced by the folder.
    """
    for root, folders, files in os.walk(source):
        below = target / os.path.relpath(root, source)
        for name in folders:
            if (Path(root) / name).is_symlink():
                files.append(name)
            else:
                _make_folder(below / name)
        for name in files:
            _clear(below / name)
            os.link(Path(root) / name, below / name, follow_symlinks=False)


def _make_folder(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    path.mkdir(exist_ok=True, mode=0o755)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
