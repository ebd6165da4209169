"""What keys a snapshot needs, whoever keeps them: a key file by default, KMS where a function names a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh key for one manifest: 32 bytes in the clear, never stored, and the same bytes wrapped."""

    plaintext: bytes = field(repr=False)
    wrapped: bytes


class KeyService(Protocol):
    """One KMS key, or what stands for one."""

    @property
    def name(self) -> str:
        """Names the key in every manifest sealed under it (a KMS key's ARN, or `key-file:<fingerprint>`)."""
        ...

    async def data_key(self, context: Mapping[str, str]) -> DataKey:
        """A fresh data key. `context` is authenticated: `unwrap` needs the same (KMS: encryption context)."""
        ...

    async def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The 32 bytes of `wrapped`. Raises `NotAuthentic` if it is another key's, altered, or of another context."""
        ...

    async def chunk_secret(self) -> bytes:
        """32 bytes that belong to this key for good; chunks sealed under them are shared within the key."""
        ...
