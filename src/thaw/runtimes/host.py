"""The runtimes that this host can serve."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from thaw.errors import RuntimeNotFound
from thaw.runtimes.client import BOOTSTRAP, COMPLETE, MOUNTED_AT, Progress, client_folder
from thaw.runtimes.interpreters import NAME, OLDEST_MINOR, Interpreter, discover
from thaw.runtimes.runtime import Mount, Runtime

LANGUAGE_AT = "/var/lang"
SHARED_WITH_HOST = Path("/usr")
"""Sandboxes have the host's /usr, so interpreters in there need no mount of their own."""

LIBRARY_PATH = f"{LANGUAGE_AT}/lib:/lib64:/usr/lib64:{MOUNTED_AT}:{MOUNTED_AT}/lib:/var/task:/var/task/lib:/opt/lib"
"""Lambda's LD_LIBRARY_PATH. Its first entry is what finds libpython of an interpreter that was moved."""

SEARCH_PATH = LANGUAGE_AT + "/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin"


class Runtimes:
    """Finds runtimes by Lambda's names, and installs what they lack; answers are kept while they stay true.

    `folders` limits where interpreters are looked for (default: PATH, pyenv, uv, the usual prefixes).
    `progress` gets one line before and after anything that takes seconds.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        region: str = "us-east-1",
        index_url: str | None = None,
        folders: Sequence[Path] | None = None,
        progress: Progress = lambda line: None,
    ) -> None:
        self._runtimes_dir = state_dir / "runtimes"
        self._region = region
        self._index_url = index_url
        self._folders = folders
        self._progress = progress
        self._found: dict[str, tuple[Interpreter, Path, Runtime]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def names(self) -> tuple[str, ...]:
        """Names of the runtimes with an interpreter here, newest first; nothing is installed."""
        return tuple(dict.fromkeys(interpreter.name for interpreter in await discover(folders=self._folders)))

    async def find(self, name: str) -> Runtime:
        """The runtime `name` ("python3.13"), complete with its client; the first time this takes some seconds.

        Raises `RuntimeNotFound` if no interpreter on this machine serves it or its client cannot be installed.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            if kept := self._kept(name):
                return kept
            interpreter = await self._interpreter(name)
            client = await client_folder(
                interpreter, self._runtimes_dir, index_url=self._index_url, progress=self._progress
            )
            runtime = describe(interpreter, client, self._region)
            self._found[name] = (interpreter, client, runtime)
            return runtime

    def _kept(self, name: str) -> Runtime | None:
        """The earlier answer, unless the interpreter or the client has changed on the host since."""
        if name not in self._found:
            return None
        interpreter, client, runtime = self._found[name]
        try:
            return runtime if _digest(interpreter, client) == runtime.digest else None
        except FileNotFoundError:
            return None

    async def _interpreter(self, name: str) -> Interpreter:
        match = NAME.fullmatch(name)
        if match is None or int(match[1]) < OLDEST_MINOR:
            raise RuntimeNotFound(
                f"The runtime {name} cannot be served, because Thaw has no client for it: "
                f"use python3.{OLDEST_MINOR} or later."
            )
        found = await discover(name, self._folders)
        if not found:
            others = ", ".join(await self.names()) or "none"
            raise RuntimeNotFound(
                f"The runtime {name} cannot be served, because this machine has no such interpreter on PATH, in "
                f"pyenv, uv or the usual prefixes (it has: {others}): install one, or use a runtime that is here."
            )
        return found[0]


def describe(interpreter: Interpreter, client: Path, region: str) -> Runtime:
    """How a sandbox starts `interpreter` with `client`.

    An interpreter outside /usr is mounted at /var/lang, where Lambda has its own, and finds its standard
    library relative to its executable.
    """
    mounts = [Mount(client, MOUNTED_AT)]
    executable = interpreter.executable
    if not interpreter.prefix.is_relative_to(SHARED_WITH_HOST):
        mounts.insert(0, Mount(interpreter.prefix, LANGUAGE_AT))
        executable = LANGUAGE_AT / interpreter.executable.relative_to(interpreter.prefix)
    digest = _digest(interpreter, client)
    return Runtime(
        name=interpreter.name,
        version=interpreter.version,
        mounts=tuple(mounts),
        # -S keeps host packages (site-packages and their .pth files) out of the function's process.
        argv=(str(executable), "-S", f"{MOUNTED_AT}/{BOOTSTRAP}"),
        variables={
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{interpreter.name}",
            "LD_LIBRARY_PATH": LIBRARY_PATH,
            "PATH": SEARCH_PATH,
            "PYTHONPATH": MOUNTED_AT,
        },
        digest=digest,
        version_arn=f"arn:aws:lambda:{region}::runtime:{digest}",
    )


def _digest(interpreter: Interpreter, client: Path) -> str:
    """SHA-256, in hex, over what identifies the bytes: sizes and times of the interpreter's files, the client's list.

    Folders count as files: their time changes when a module in them is added, removed or replaced.
    Raises `FileNotFoundError` if a part is gone.
    """
    files = [interpreter.executable, interpreter.standard_library]
    files += [interpreter.library] if interpreter.library else []
    modules = interpreter.standard_library / "lib-dynload"
    files += [modules] if modules.is_dir() else []
    digest = hashlib.sha256(f"{interpreter.version}\0{client.name}\0".encode())
    for file in files:
        status = file.stat()
        digest.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    digest.update((client / COMPLETE).read_bytes())
    return digest.hexdigest()
