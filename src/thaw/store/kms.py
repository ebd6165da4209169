"""Keys that KMS keeps: every data key and every chunk secret is made, and opened, by KMS itself.

::

    data key       GenerateDataKey, context {"thaw:snapshot": <snapshot key>}; its wrapped form is in the manifest
    chunk secret   GenerateDataKey, context {"thaw:chunks": <ARN>}; its wrapped form is in the origin's folder keys

So whoever has the origin, or this worker's disk, opens nothing without being allowed to call Decrypt with that key.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from thaw.chunk import DataKey
from thaw.errors import NotAuthentic, ServiceError
from thaw.store.chunk_store import ListedStore

SECRET_LIMIT = 16 * 1024
"""Bytes of the largest wrapped chunk secret that is read."""
MAGIC = b"THWS"
VERSION = 1
HEADER = struct.Struct("<4sHHI4x")
LIMIT_S = 5

# What KMS answers, what Lambda's Invoke then raises, and what both say of it.
ERRORS = {
    "AccessDeniedException": ("KMSAccessDeniedException", "KMS access was denied"),
    "UnrecognizedClientException": ("KMSAccessDeniedException", "KMS access was denied"),
    "InvalidClientTokenId": ("KMSAccessDeniedException", "KMS access was denied"),
    "DisabledException": ("KMSDisabledException", "the KMS key used is disabled"),
    "NotFoundException": ("KMSNotFoundException", "the KMS key was not found"),
    "KMSInvalidStateException": (
        "KMSInvalidStateException", "the state of the KMS key used is not valid for Decrypt",
    ),
}  # fmt: skip
STATE_REASON_CODES = {
    "KMSAccessDeniedException": "KMSKeyAccessDenied",
    "KMSDisabledException": "DisabledKMSKey",
    "KMSNotFoundException": "KMSKeyNotFound",
    "KMSInvalidStateException": "InvalidStateKMSKey",
}
"""The StateReasonCode of a version whose publish failed for the key, by the error's code."""


class KmsKey:
    """A `KeyService` that is one KMS key. All methods raise `ServiceError` with the code that Invoke then has.

    `secrets` is the origin's folder of wrapped chunk secrets.
    """

    def __init__(self, arn: str, client: Any, secrets: ListedStore) -> None:
        self._arn = arn
        self._client = client
        self._secrets = secrets
        self._secret = b""

    @property
    def name(self) -> str:
        """The key's ARN."""
        return self._arn

    async def data_key(self, context: Mapping[str, str]) -> DataKey:
        """A fresh data key, wrapped by KMS in `context`."""
        answer = await self._ask(
            lambda: self._client.generate_data_key(KeyId=self._arn, KeySpec="AES_256", EncryptionContext=dict(context))
        )
        return DataKey(answer["Plaintext"], answer["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The data key in `wrapped`. Raises `NotAuthentic` if KMS says that it is not this key's in this context."""
        answer = await self._ask(
            lambda: self._client.decrypt(CiphertextBlob=wrapped, KeyId=self._arn, EncryptionContext=dict(context))
        )
        plaintext: bytes = answer["Plaintext"]
        return plaintext

    async def chunk_secret(self) -> bytes:
        """The secret of this key; the first worker makes it, all others find it in the origin."""
        if not self._secret:
            self._secret = await self._find_secret() or await self._make_secret()
        return self._secret

    async def _find_secret(self) -> bytes | None:
        name = secret_name(self._arn)
        if not await self._secrets.contains(name):
            return None
        return await self.unwrap(unpack_secret(self._arn, await self._secrets.get(name)), self._context())

    async def _make_secret(self) -> bytes:
        made = await self.data_key(self._context())
        if await self._secrets.put_new(secret_name(self._arn), pack_secret(self._arn, made.wrapped)):
            return made.plaintext
        found = await self._find_secret()
        assert found is not None, "another worker was first"
        return found

    def _context(self) -> dict[str, str]:
        return {"thaw:chunks": self._arn}

    async def _ask(self, request: Callable[[], Any]) -> Any:
        try:
            return await asyncio.to_thread(request)
        except ClientError as error:
            raise self._answer(error) from error
        except BotoCoreError as error:
            raise ServiceError(
                "ServiceException",
                f"KMS does not answer for {self._arn} ({error}): check THAW_KMS_ENDPOINT, the region and this server's "
                "AWS credentials.",
                type="Service",
            ) from error

    def _answer(self, error: ClientError) -> Exception:
        code, said = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
        if code in ("InvalidCiphertextException", "IncorrectKeyException"):
            return NotAuthentic(
                f"KMS does not open the data key under {self._arn} ({code}), because it was altered or belongs to "
                "another snapshot or key: publish the version again."
            )
        named, why = ERRORS.get(code, ("ServiceException", "KMS refused"))
        return ServiceError(
            named,
            f"Lambda was unable to decrypt the snapshot because {why}. Please check the function's KMS key settings. "
            f"KMS Exception: {code} KMS Message: {said}",
            type="Service" if named == "ServiceException" else "User",
        )


def secret_name(arn: str) -> str:
    """The name of a key's wrapped chunk secret in the origin: the hex SHA-256 of its ARN."""
    return hashlib.sha256(arn.encode()).hexdigest()


def pack_secret(arn: str, wrapped: bytes) -> bytes:
    """The file of a wrapped chunk secret (docs/formats.md)."""
    name = arn.encode()
    return HEADER.pack(MAGIC, VERSION, len(name), len(wrapped)) + name + wrapped


def unpack_secret(arn: str, packed: bytes) -> bytes:
    """The wrapped secret. Raises `NotAuthentic` if the file is not this key's."""
    if len(packed) >= HEADER.size:
        magic, version, name_size, size = HEADER.unpack_from(packed)
        opening = HEADER.pack(MAGIC, VERSION, name_size, size) + arn.encode()
        if (magic, version) == (MAGIC, VERSION) and packed.startswith(opening) and len(packed) == len(opening) + size:
            return packed[len(opening) :]
    raise NotAuthentic(
        f"The chunk secret of {arn} in the origin is not one, because it was altered: remove {secret_name(arn)} from "
        "the origin's folder keys; new snapshots then share no chunks with the old ones."
    )


def kms_client(endpoint: str | None, region: str) -> Any:
    """boto3's client; its credentials are those of the server's environment."""
    return boto3.client(
        "kms", endpoint_url=endpoint, region_name=region,
        config=Config(
            connect_timeout=LIMIT_S, read_timeout=LIMIT_S, retries={"mode": "standard", "total_max_attempts": 3}
        ),
    )  # fmt: skip
