"""The default key: a file that Thaw makes for itself, in the place of the AWS-managed key.

Its 48 bytes: magic "THWK", format version 1 (2 bytes, little-endian), 10 zero bytes, 32 random bytes. Whoever
has it can open every snapshot under it; whoever loses it has to publish every version again.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from thaw.chunk import DataKey
from thaw.errors import ConfigurationError, NotAuthentic
from thaw.store.durable import FILE_MODE, make_folder, sync_folder, write_fully

MAGIC = b"THWK"
VERSION = 1
LAYOUT = struct.Struct("<4sH10s32s")
NONCE_SIZE = 12

WRAP_LABEL = b"thaw wrap key v1"
CHUNK_LABEL = b"thaw chunk secret v1"
NAME_LABEL = b"thaw key name v1"


class KeyFile:
    """A `KeyService` over one file, which is made, mode 0600, when it is first needed.

    A wrapped data key is a nonce (12 bytes), then AES-256-GCM of the data key with the context as associated
    data. All methods raise `ConfigurationError` if the file is not one, or if others may read it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._master = b""

    @property
    def name(self) -> str:
        """`key-file:` and 16 hex digits that identify the key without telling anything about it."""
        return "key-file:" + self._derive(NAME_LABEL)[:8].hex()

    def prepare(self) -> None:
        """Makes the file if it is missing and checks it, so that a server finds out when it starts."""
        self._derive(NAME_LABEL)

    async def data_key(self, context: Mapping[str, str]) -> DataKey:
        """A fresh data key, wrapped in `context`."""
        wrap = await asyncio.to_thread(self._derive, WRAP_LABEL)
        plaintext, nonce = secrets.token_bytes(32), secrets.token_bytes(NONCE_SIZE)
        return DataKey(plaintext, nonce + AESGCM(wrap).encrypt(nonce, plaintext, _associated(context)))

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The data key in `wrapped`. Raises `NotAuthentic` if it was not wrapped by this key in this context."""
        wrap = await asyncio.to_thread(self._derive, WRAP_LABEL)
        try:
            return AESGCM(wrap).decrypt(wrapped[:NONCE_SIZE], wrapped[NONCE_SIZE:], _associated(context))
        except (InvalidTag, ValueError):
            raise NotAuthentic(
                f"The data key does not open under the key file {self._path}, because it was altered or belongs to "
                "another snapshot or key: put the right key file in place, or publish the version again."
            ) from None

    async def chunk_secret(self) -> bytes:
        """The secret from which this key's chunk keys and ids come."""
        return await asyncio.to_thread(self._derive, CHUNK_LABEL)

    def _derive(self, label: bytes) -> bytes:
        if not self._master:
            self._master = _read(self._path) if self._path.exists() else _create(self._path)
        return hmac.digest(self._master, label, "sha256")


def _associated(context: Mapping[str, str]) -> bytes:
    return json.dumps(dict(context), sort_keys=True, separators=(",", ":")).encode()


def _create(path: Path) -> bytes:
    """Makes the file whole and at once, so that two servers that start together end up with the same key."""
    part = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        make_folder(path.parent)
        try:
            _write_new(part, LAYOUT.pack(MAGIC, VERSION, bytes(10), secrets.token_bytes(32)))
            _link(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The key file {path} cannot be made, because {_reason(error)}: "
            "make its folder writable, or set THAW_STATE_DIR to another one."
        ) from error
    return _read(path)


def _write_new(part: Path, content: bytes) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        write_fully(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        return  # another server was first, and its key counts
    sync_folder(path.parent)


def _read(path: Path) -> bytes:
    try:
        content, status = path.read_bytes(), path.stat()
    except OSError as error:
        raise ConfigurationError(
            f"The key file {path} cannot be read, because {_reason(error)}: "
            "check its owner and that its disk is mounted."
        ) from error
    if status.st_mode & 0o077:
        raise ConfigurationError(
            f"The key file {path} is not used, because others may read it (mode {status.st_mode & 0o777:04o}): "
            f"run chmod 600 {path}."
        )
    if len(content) != LAYOUT.size or content[:6] != LAYOUT.pack(MAGIC, VERSION, b"", b"")[:6]:
        raise ConfigurationError(
            f"The key file {path} is not one that Thaw made, because it does not begin as a key file does or has "
            f"{len(content)} bytes instead of {LAYOUT.size}: restore it from a backup, or remove it and publish every "
            "version again."
        )
    return bytes(LAYOUT.unpack(content)[3])


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason[:1].lower() + reason[1:]
