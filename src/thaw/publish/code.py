"""Deployment packages: checked, unpacked safely, and kept as one read-only folder per content.

A package is a zip file. Its folder is `state_dir/code/<sha256 of the zip>/`, which environments mount at /var/task.
The folder is a cache: the zip in the object store is what counts, so it may vanish and is then unpacked again.
Modification times come from the zip, so that the same zip has the same files on every worker.
"""

from __future__ import annotations

import asyncio
import calendar
import hashlib
import io
import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path, PurePosixPath

from thaw.errors import ServiceError

# Lambda's quota "Deployment package (.zip file archive) size: 250 MB unzipped".
UNZIPPED_LIMIT = 262_144_000
COPY_SIZE = 1 << 20
LINK_SIZE_LIMIT = 4096
NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."
EMPTY = "Uploaded file must be a non-empty zip"
TOO_LARGE = f"Unzipped size must be smaller than {UNZIPPED_LIMIT} bytes"

# A package that only its owner can read is of no use: functions run as another user. (Zips that Python's
# ZipFile.writestr makes have mode 0600.) So everybody may read, and nobody's right to write or set-user-id is kept.
READABLE = 0o444
READABLE_FOLDER = 0o555


class _Refused(Exception):
    """The package breaks a rule; the text is Lambda's."""


def code_key(package: bytes) -> str:
    """The name of a package in the store and of its folder: its SHA-256 in hex."""
    return hashlib.sha256(package).hexdigest()


def unpack(package: bytes, folder: Path, *, limit: int = UNZIPPED_LIMIT) -> None:
    """Unpacks the zip file `package` into the new folder `folder`, which does not exist before nor after a failure.

    Raises ServiceError (InvalidParameterValueException, Lambda's text) where the zip is malformed, encrypted or empty,
    holds a path or a link that leads out of the folder, or is larger than `limit` bytes when unpacked.
    """
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            _Unpacking(archive, folder, limit).run()
    except _Refused as error:
        shutil.rmtree(folder)
        raise ServiceError("InvalidParameterValueException", str(error)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(folder)
        raise ServiceError("InvalidParameterValueException", NOT_A_ZIP) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Unpacking:
    """One run over one archive: folders and files first, links last, so that nothing is written through a link."""

    def __init__(self, archive: zipfile.ZipFile, folder: Path, limit: int) -> None:
        self.archive = archive
        self.folder = folder
        self.left = limit
        self.limit = limit

    def run(self) -> None:
        entries = dict(self._entries())  # of two entries with one name the later counts, as with `unzip -o`
        if not entries:
            raise _Refused(EMPTY)
        links = []
        for path, entry in entries.items():
            if stat.S_ISLNK(_mode(entry)):
                links.append((path, entry))
            elif not entry.is_dir():
                self._file(path, entry)
            else:
                self._make_folder(path)
        for path, entry in links:
            self._link(path, entry)
        self._check_links([path for path, _ in links])
        self._set_folder_modes(entries)

    def _entries(self) -> Iterator[tuple[Path, zipfile.ZipInfo]]:
        for entry in self.archive.infolist():
            kind = stat.S_IFMT(_mode(entry))
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
                raise _Refused(NOT_A_ZIP)
            if entry.flag_bits & 1:  # encrypted
                raise _Refused(NOT_A_ZIP)
            yield self.folder / _relative(entry.filename), entry

    def _make_folder(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:  # one name is a file here and a folder there
            raise _Refused(NOT_A_ZIP) from error

    def _file(self, path: Path, entry: zipfile.ZipInfo) -> None:
        self._make_folder(path.parent)
        try:
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except (FileExistsError, IsADirectoryError) as error:
            raise _Refused(NOT_A_ZIP) from error
        with open(target, "wb") as file, self.archive.open(entry) as source:
            while piece := source.read(COPY_SIZE):
                self._take(len(piece))
                file.write(piece)
            os.fchmod(target, (_mode(entry) or 0o644) & 0o555 | READABLE)
        modified = calendar.timegm((*entry.date_time, 0, 0, 0))
        os.utime(path, (modified, modified))

    def _take(self, size: int) -> None:
        """Counts what was really unpacked: the sizes in the zip's directory may lie."""
        self.left -= size
        if self.left < 0:
            raise _Refused(TOO_LARGE.replace(str(UNZIPPED_LIMIT), str(self.limit)))

    def _link(self, path: Path, entry: zipfile.ZipInfo) -> None:
        if entry.file_size > LINK_SIZE_LIMIT:
            raise _Refused(NOT_A_ZIP)
        target = os.fsdecode(self.archive.read(entry))
        self._make_folder(path.parent)
        if target.startswith("/") or not target or "\0" in target or os.path.lexists(path):
            raise _Refused(NOT_A_ZIP)
        path.symlink_to(target)

    def _check_links(self, links: list[Path]) -> None:
        """Resolves every link once all exist: two links can lead out together where each alone does not."""
        inside = self.folder.resolve()
        for path in links:
            if not path.parent.resolve().is_relative_to(inside) or not path.resolve().is_relative_to(inside):
                raise _Refused(NOT_A_ZIP)

    def _set_folder_modes(self, entries: dict[Path, zipfile.ZipInfo]) -> None:
        for root, _, _ in os.walk(self.folder):
            path = Path(root)
            entry = entries.get(path)
            mode = _mode(entry) if entry is not None else 0
            path.chmod((mode or 0o755) & 0o755 | READABLE_FOLDER | stat.S_IWUSR)


def _mode(entry: zipfile.ZipInfo) -> int:
    """The Unix mode of an entry; 0 where the zip was made on a system that has none."""
    return entry.external_attr >> 16


def _relative(name: str) -> PurePosixPath:
    """The entry's path below the folder; refuses absolute paths, "..", drive letters and control characters."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or any(ord(letter) < 32 for letter in name):
        raise _Refused(NOT_A_ZIP)
    if len(os.fsencode(str(path))) > 1024 or ":" in path.parts[0]:
        raise _Refused(NOT_A_ZIP)
    return path


class CodeFolders:
    """The unpacked packages of this worker, one folder per content; concurrent requests unpack once.

    `read` gives the zip of a key from the object store.
    """

    def __init__(self, root: Path, read: Callable[[str], Awaitable[bytes]]) -> None:
        self.root = root
        self._read = read
        self._unpacking: dict[str, asyncio.Task[Path]] = {}
        self._sizes: dict[str, int] = {}

    def prepare(self) -> None:
        """Makes the root folder and removes what an interrupted run left half unpacked. Blocks: call it at start."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o755)
        for entry in self.root.iterdir():
            if entry.name.startswith("."):
                shutil.rmtree(entry)

    async def add(self, package: bytes) -> Path:
        """Unpacks an uploaded package. Raises ServiceError as `unpack` does."""
        key = await asyncio.to_thread(code_key, package)
        return await self._unpacked(key, package)

    async def folder(self, key: str) -> Path:
        """The folder of the package named `key`, unpacked from the object store where it is not here yet."""
        path = self.root / key
        if path.is_dir():
            return path
        return await self._unpacked(key, None)

    async def size(self, key: str) -> int:
        """Bytes of the unpacked package named `key`, files only."""
        if key not in self._sizes:
            self._sizes[key] = await asyncio.to_thread(size_of, await self.folder(key))
        return self._sizes[key]

    async def remove(self, key: str) -> None:
        """Deletes the folder of a package that no configuration names any more."""
        self._sizes.pop(key, None)
        doomed = self.root / f".{secrets.token_hex(8)}"
        try:
            (self.root / key).rename(doomed)
        except FileNotFoundError:
            return
        await asyncio.to_thread(shutil.rmtree, doomed)

    async def _unpacked(self, key: str, package: bytes | None) -> Path:
        task = self._unpacking.get(key)
        if task is None:
            task = self._unpacking[key] = asyncio.create_task(self._unpack(key, package))
            task.add_done_callback(lambda _: self._unpacking.pop(key, None))
        return await asyncio.shield(task)

    async def _unpack(self, key: str, package: bytes | None) -> Path:
        path = self.root / key
        if path.is_dir():
            return path
        content = package if package is not None else await self._read(key)
        await asyncio.to_thread(self._unpack_atomically, content, path)
        return path

    def _unpack_atomically(self, package: bytes, path: Path) -> None:
        part = self.root / f".{secrets.token_hex(8)}"
        unpack(package, part)
        part.rename(path)


def size_of(folder: Path) -> int:
    """Bytes of the files below `folder`."""
    return sum(
        (Path(root) / name).lstat().st_size
        for root, _, files in os.walk(folder)
        for name in files
        if not (Path(root) / name).is_symlink()
    )
