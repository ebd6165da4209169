"""The runtimes that this host can serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from thaw.errors import RuntimeNotFound
from thaw.runtimes.added import added_folders
from thaw.runtimes.installation import Progress
from thaw.runtimes.java import JavaRuntimes
from thaw.runtimes.language import Language
from thaw.runtimes.node import NodeRuntimes
from thaw.runtimes.provided import ProvidedRuntimes
from thaw.runtimes.python import PythonRuntimes
from thaw.runtimes.runtime import Installed, Runtime


class Runtimes:
    """Finds runtimes by Lambda's names, and installs what they lack; answers are kept while they stay true.

    `folders` limits where Python interpreters are looked for (default: PATH, pyenv, uv, the usual prefixes), and
    `java_homes` which folders may be Java installations (default: JAVA_HOME, PATH, the usual places).
    `progress` gets one line before and after anything that takes seconds.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        region: str = "us-east-1",
        index_url: str | None = None,
        maven_repository_url: str | None = None,
        folders: Sequence[Path] | None = None,
        java_homes: Sequence[Path] | None = None,
        progress: Progress = lambda line: None,
    ) -> None:
        runtimes_dir = state_dir / "runtimes"
        added = partial(added_folders, state_dir)
        self._languages: tuple[Language, ...] = (
            PythonRuntimes(
                runtimes_dir, region=region, index_url=index_url, folders=folders, added=added, progress=progress
            ),
            JavaRuntimes(
                runtimes_dir,
                region=region,
                repository_url=maven_repository_url,
                homes=java_homes,
                added=added,
                progress=progress,
            ),
            NodeRuntimes(runtimes_dir, region=region, progress=progress),
            ProvidedRuntimes(region=region),
        )
        self._found: dict[str, Runtime] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def installed(self) -> list[Installed]:
        """Every installation that serves a runtime, by family, newest first."""
        found = await asyncio.gather(*(language.installed() for language in self._languages))
        return [each for family in found for each in family]

    async def names(self) -> tuple[str, ...]:
        """Names of the runtimes that this machine has, by family, newest first; nothing is installed."""
        found = await asyncio.gather(*(language.names() for language in self._languages))
        return tuple(name for names in found for name in names)

    async def find(self, name: str) -> Runtime:
        """The runtime `name` ("python3.13"), complete with its client; the first time this takes some seconds.

        Raises `RuntimeNotFound` if this machine does not serve it or its client cannot be installed.
        """
        language = self._language(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            kept = self._found.get(name)
            if kept is None or language.digest(name) != kept.digest:
                kept = self._found[name] = await language.find(name)
            return kept

    def _language(self, name: str) -> Language:
        for language in self._languages:
            if language.serves(name):
                return language
        raise RuntimeNotFound(
            f"The runtime {name} cannot be served, because Thaw has no client for it: use python3.9 or later, java11 "
            "or later, nodejs18.x or later, or provided.al2023."
        )
