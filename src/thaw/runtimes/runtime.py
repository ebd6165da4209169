"""What a sandbox needs to know of a language runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host that the sandbox sees, read-only, at `target`."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One language runtime of this machine, complete with its client.

    `digest` (hex) names the bytes behind it: it changes when the interpreter or the client changes on the
    host, which makes snapshots taken with it stale. `argv` runs inside the sandbox; the handler comes from
    the variable `_HANDLER`.
    """

    name: str
    version: str
    mounts: tuple[Mount, ...]
    argv: tuple[str, ...]
    variables: Mapping[str, str]
    digest: str
    version_arn: str

    @property
    def label(self) -> str:
        """The name in INIT_START and RESTORE_START lines, as "python:3.13.v0" (on Lambda v counts the patches)."""
        language = self.name.rstrip("0123456789.")
        major, minor, patch = self.version.split(".")[:3]
        return f"{language}:{major}.{minor}.v{patch}"
