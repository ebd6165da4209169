"""What a sandbox needs to know of a language runtime."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

# "python3.13", "java21", "nodejs20.x", "provided.al2023": the language, and its release.
_NAME = re.compile(r"([a-z]+)\.?(.*?)(?:\.x)?")


@dataclass(frozen=True, slots=True)
class Installed:
    """An installation of this machine that serves the runtime `name`; `folder` is None where the function brings it."""

    name: str
    version: str
    folder: Path | None


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host that the sandbox sees, read-only, at `target`."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a command line may depend on beside the runtime: the unpacked code, the merged layers, and MemorySize."""

    task: Path
    layers: Path | None
    memory_mib: int


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
    adapt: Callable[[Circumstances], tuple[str, ...]] | None = None
    """Makes the `argv` of one function, where it is not the same for all."""

    @property
    def label(self) -> str:
        """The name in INIT_START and RESTORE_START lines, as "python:3.13.v2" (on Lambda v counts the patches)."""
        match = _NAME.fullmatch(self.name)
        language, release = match.groups() if match else (self.name, "")
        # Java's second number is always 0 (JEP 322): 17.0.15 is the fifteenth update.
        patch = self.version.removeprefix(release).strip(".").removeprefix("0.").split(".")[0]
        return f"{language}:{release}.v{patch or 0}"

    def adapted(self, circumstances: Circumstances) -> Runtime:
        """This runtime, with the `argv` for one function."""
        return self if self.adapt is None else replace(self, argv=self.adapt(circumstances))
