"""Which key a snapshot is sealed under: the one that its function names, else the default."""

from __future__ import annotations

from collections.abc import Callable

from thaw.chunk import KeyService


class KeyRing:
    """`default` (the key file) stands for the AWS-managed key; `kms(arn)` gives a key that a function names."""

    def __init__(self, default: KeyService, kms: Callable[[str], KeyService] | None = None) -> None:
        self._default = default
        self._kms = kms
        self._named: dict[str, KeyService] = {}

    def key(self, arn: str | None) -> KeyService:
        """The key with this ARN; the default where a function names none ("" counts as none, as in the API)."""
        if not arn or self._kms is None:
            return self._default
        if arn not in self._named:
            self._named[arn] = self._kms(arn)
        return self._named[arn]
