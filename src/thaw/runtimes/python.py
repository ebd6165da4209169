"""The Python runtimes: python3.9 and later, each with the AWS client in a folder of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from thaw.errors import RuntimeNotFound
from thaw.runtimes.client import BOOTSTRAP, MOUNTED_AT, client_folder
from thaw.runtimes.installation import COMPLETE, Progress
from thaw.runtimes.interpreters import NAME, OLDEST_MINOR, Interpreter, default_folders, discover
from thaw.runtimes.runtime import Installed, Mount, Runtime

LANGUAGE_AT = "/var/lang"
SHARED_WITH_HOST = Path("/usr")
"""Sandboxes have the host's /usr, so interpreters in there need no mount of their own."""

LIBRARY_PATH = f"{LANGUAGE_AT}/lib:/lib64:/usr/lib64:{MOUNTED_AT}:{MOUNTED_AT}/lib:/var/task:/var/task/lib:/opt/lib"
"""Lambda's LD_LIBRARY_PATH. Its first entry is what finds libpython of an interpreter that was moved."""

SEARCH_PATH = LANGUAGE_AT + "/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin"


class PythonRuntimes:
    """The `Language` of python3.9 and later; `folders` limits where interpreters are looked for.

    `added` names folders of people's own (with bin/ in them), which come first.
    """

    def __init__(
        self,
        runtimes_dir: Path,
        *,
        region: str,
        index_url: str | None = None,
        folders: Sequence[Path] | None = None,
        added: Callable[[], Sequence[Path]] = tuple,
        progress: Progress,
    ) -> None:
        self._runtimes_dir = runtimes_dir
        self._region = region
        self._index_url = index_url
        self._folders = folders
        self._added = added
        self._progress = progress
        self._found: dict[str, tuple[Interpreter, Path]] = {}

    def serves(self, name: str) -> bool:
        """Whether `name` is a Python that the client exists for."""
        match = NAME.fullmatch(name)
        return match is not None and int(match[1]) >= OLDEST_MINOR

    async def names(self) -> tuple[str, ...]:
        """Those with an interpreter here, newest first."""
        return tuple(dict.fromkeys(each.name for each in await self.installed()))

    async def installed(self) -> list[Installed]:
        """See `Language`."""
        found = await discover(folders=self._all_folders())
        return [Installed(interpreter.name, interpreter.version, interpreter.prefix) for interpreter in found]

    async def find(self, name: str) -> Runtime:
        """The runtime `name`, installing its client if need be; raises `RuntimeNotFound`."""
        interpreter = await self._interpreter(name)
        client = await client_folder(
            interpreter, self._runtimes_dir, index_url=self._index_url, progress=self._progress
        )
        self._found[name] = interpreter, client
        return describe(interpreter, client, self._region)

    def digest(self, name: str) -> str | None:
        """The digest of the runtime found before, as its files are now; None if a part is gone."""
        try:
            return _digest(*self._found[name])
        except FileNotFoundError:
            return None

    def _all_folders(self) -> list[Path]:
        folders = default_folders() if self._folders is None else self._folders
        return [*(folder / "bin" for folder in self._added()), *folders]

    async def _interpreter(self, name: str) -> Interpreter:
        found = await discover(name, self._all_folders())
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
