"""The Java runtimes: java11, java17, java21 and java25, each on a JDK or JRE of this machine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from thaw.errors import RuntimeNotFound
from thaw.runtimes.installation import COMPLETE, Progress
from thaw.runtimes.java_client import BOOTSTRAP, MOUNTED_AT, client_folder
from thaw.runtimes.java_homes import NAME, SERVED, JavaHome, default_homes, discover
from thaw.runtimes.python import LANGUAGE_AT, SHARED_WITH_HOST
from thaw.runtimes.runtime import Installed, Mount, Runtime

LIBRARY_PATH = f"/lib64:/usr/lib64:{MOUNTED_AT}:{MOUNTED_AT}/lib:/var/task:/var/task/lib:/opt/lib"
"""Lambda's LD_LIBRARY_PATH without the folder of a language: a JVM finds its own libraries."""


class JavaRuntimes:
    """The `Language` of Java; `homes` limits where installations are looked for (default: the usual places).

    `added` names folders of people's own, which come first.
    """

    def __init__(
        self,
        runtimes_dir: Path,
        *,
        region: str,
        repository_url: str | None = None,
        homes: Sequence[Path] | None = None,
        added: Callable[[], Sequence[Path]] = tuple,
        progress: Progress,
    ) -> None:
        self._runtimes_dir = runtimes_dir
        self._region = region
        self._repository_url = repository_url
        self._homes = homes
        self._added = added
        self._progress = progress
        self._found: dict[str, tuple[JavaHome, Path]] = {}

    def serves(self, name: str) -> bool:
        """Whether `name` is one of Lambda's Java versions that the client exists for."""
        match = NAME.fullmatch(name)
        return match is not None and int(match[1]) in SERVED

    async def names(self) -> tuple[str, ...]:
        """Those with an installation here, newest first."""
        return tuple(dict.fromkeys(each.name for each in await self.installed()))

    async def installed(self) -> list[Installed]:
        """See `Language`."""
        found = await asyncio.to_thread(discover, self._all_homes())
        return [Installed(home.name, home.version, home.folder) for home in found]

    async def find(self, name: str) -> Runtime:
        """The runtime `name`, fetching its client if need be; raises `RuntimeNotFound`."""
        homes = await asyncio.to_thread(discover, self._all_homes())
        home = _home(name, homes)
        client = await client_folder(
            self._runtimes_dir, _compiler(homes), repository_url=self._repository_url, progress=self._progress
        )
        self._found[name] = home, client
        return describe(home, client, self._region)

    def digest(self, name: str) -> str | None:
        """The digest of the runtime found before, as its files are now; None if a part is gone."""
        try:
            return runtime_digest(*self._found[name])
        except FileNotFoundError:
            return None

    def _all_homes(self) -> list[Path]:
        return [*self._added(), *(default_homes() if self._homes is None else self._homes)]


def _home(name: str, homes: Sequence[JavaHome]) -> JavaHome:
    for home in homes:
        if home.name == name:
            return home
    others = ", ".join(dict.fromkeys(home.name for home in homes)) or "none"
    raise RuntimeNotFound(
        f"The runtime {name} cannot be served, because this machine has no such Java in JAVA_HOME, on PATH or in "
        f"the usual places (it has: {others}): install one, or name its folder with `thaw runtime add`."
    )


def _compiler(homes: Sequence[JavaHome]) -> Path | None:
    """The newest javac of this machine."""
    return next((home.folder / "bin" / "javac" for home in homes if (home.folder / "bin" / "javac").is_file()), None)


def describe(home: JavaHome, client: Path, region: str) -> Runtime:
    """How a sandbox starts `home` with `client`; outside /usr it is mounted at /var/lang, where Lambda has its own."""
    mounts = [Mount(client, MOUNTED_AT)]
    executable, folder = home.executable, home.folder
    if not folder.is_relative_to(SHARED_WITH_HOST):
        mounts.insert(0, Mount(folder, LANGUAGE_AT))
        executable, folder = Path(LANGUAGE_AT, "bin", "java"), Path(LANGUAGE_AT)
    digest = runtime_digest(home, client)
    return Runtime(
        name=home.name,
        version=home.version,
        mounts=tuple(mounts),
        argv=("/bin/sh", f"{MOUNTED_AT}/{BOOTSTRAP}", str(executable), str(home.major)),
        variables={
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{home.name}",
            "JAVA_HOME": str(folder),
            "LD_LIBRARY_PATH": LIBRARY_PATH,
            "PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin",
        },
        digest=digest,
        version_arn=f"arn:aws:lambda:{region}::runtime:{digest}",
    )


def runtime_digest(home: JavaHome, client: Path) -> str:
    """SHA-256, in hex, over what identifies the bytes: sizes and times of the installation's parts, the client's name.

    Raises `FileNotFoundError` if a part is gone.
    """
    digest = hashlib.sha256(f"{home.version}\0{client.name}\0".encode())
    for file in home.parts:
        status = file.stat()
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    digest.update((client / COMPLETE).read_bytes())
    return digest.hexdigest()
