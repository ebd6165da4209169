"""The Node.js runtimes, nodejs18.x and later: a node of this machine with AWS's own runtime interface client.

The client (the package aws-lambda-ric) is installed once per node by npm, which compiles its native part with cmake,
make and g++. Only the client itself is kept. The AWS SDK is not installed: a package brings the clients that it uses.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from thaw.errors import RuntimeNotFound
from thaw.runtimes.client import MOUNTED_AT
from thaw.runtimes.installation import COMPLETE, Progress, complete_folder, run
from thaw.runtimes.probing import ask
from thaw.runtimes.python import LANGUAGE_AT, LIBRARY_PATH, SEARCH_PATH, SHARED_WITH_HOST
from thaw.runtimes.runtime import Circumstances, Installed, Mount, Runtime

OLDEST_MAJOR = 18
"""The client asks for 22; it was tried with 18, 20, 22 and 24. Lambda has nothing older than 18 that is in use."""

CLIENT = "aws-lambda-ric@4.0.2"
# Of what npm brings, only this is used when a function runs; the rest has compiled it.
_KEPT = (
    "aws-lambda-ric/index.mjs", "aws-lambda-ric/rapid-client.node", "aws-lambda-ric/package.json",
    "aws-lambda-ric/LICENSE", "aws-lambda-ric/NOTICE", "@aws/lambda-invoke-store",
)  # fmt: skip
_BUILD_TOOLS = ("cmake", "make", "g++")
_ENTRY = f"{MOUNTED_AT}/node_modules/aws-lambda-ric/index.mjs"
BOOTSTRAP = "node_bootstrap.cjs"

# The shares of MemorySize that Lambda gives to the two parts of V8's heap.
_OLD_SPACE_SHARE, _SEMI_SPACE_SHARE = 0.90, 0.05

_PROBE = "JSON.stringify({version: process.versions.node, path: require('fs').realpathSync(process.execPath)})"
_NAME = re.compile(r"nodejs(\d+)\.x")


@dataclass(frozen=True, slots=True)
class Node:
    """A node that runs here: its version, and its executable with links resolved."""

    version: str
    executable: Path

    @property
    def name(self) -> str:
        """The runtime that it serves: "nodejs20.x"."""
        return f"nodejs{self.version.split('.')[0]}.x"

    @property
    def prefix(self) -> Path:
        """The folder with bin, lib and include."""
        return self.executable.parent.parent


def candidates() -> Iterator[Path]:
    """Executables named node: on PATH, of nvm, nodenv and fnm, and in the usual prefixes."""
    home = Path.home()
    on_path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    versions = [
        *sorted(home.glob(".nvm/versions/node/*/bin")),
        *sorted(home.glob(".nodenv/versions/*/bin")),
        *sorted(home.glob(".local/share/fnm/node-versions/*/installation/bin")),
        *sorted(Path("/opt").glob("*/bin")),
    ]
    for folder in dict.fromkeys([*on_path, *versions, Path("/usr/local/bin"), Path("/usr/bin")]):
        if os.access(folder / "node", os.X_OK):
            yield folder / "node"


async def probe(executable: Path) -> Node | None:
    """What `executable` says it is; None if it does not run or is too old."""
    output = await ask(executable, "-p", _PROBE)
    if output is None:
        return None
    facts = json.loads(output)
    node = Node(facts["version"], Path(facts["path"]))
    return node if int(node.version.split(".")[0]) >= OLDEST_MAJOR else None


async def discover() -> list[Node]:
    """Every distinct node of this machine, newest first."""
    found = [node for node in await asyncio.gather(*map(probe, candidates())) if node is not None]
    return sorted(dict.fromkeys(found), key=lambda one: tuple(map(int, one.version.split("."))), reverse=True)


class NodeRuntimes:
    """The `Language` of nodejs18.x and later."""

    def __init__(self, runtimes_dir: Path, *, region: str, progress: Progress) -> None:
        self._runtimes_dir = runtimes_dir
        self._region = region
        self._progress = progress
        self._parts: dict[str, tuple[Node, Path]] = {}

    def serves(self, name: str) -> bool:
        """Every nodejs<major>.x that the client runs on."""
        match = _NAME.fullmatch(name)
        return match is not None and int(match[1]) >= OLDEST_MAJOR

    async def names(self) -> Sequence[str]:
        """See `Language`."""
        return tuple(dict.fromkeys(node.name for node in await discover()))

    async def installed(self) -> Sequence[Installed]:
        """See `Language`."""
        return [Installed(node.name, node.version, node.prefix) for node in await discover()]

    async def find(self, name: str) -> Runtime:
        """See `Language`; raises `RuntimeNotFound` where there is no such node, or its client cannot be built."""
        nodes = [node for node in await discover() if node.name == name]
        if not nodes:
            others = ", ".join(await self.names()) or "none"
            raise RuntimeNotFound(
                f"The runtime {name} cannot be served, because this machine has no such node on PATH, in nvm, nodenv, "
                f"fnm or the usual prefixes (it has: {others}): install one, or use a runtime that is here."
            )
        client = await client_folder(nodes[0], self._runtimes_dir, self._progress)
        self._parts[name] = (nodes[0], client)
        return describe(nodes[0], client, self._region)

    def digest(self, name: str) -> str | None:
        """See `Language`."""
        try:
            return _digest(*self._parts[name])
        except FileNotFoundError:
            return None


def describe(node: Node, client: Path, region: str) -> Runtime:
    """How a sandbox starts `node` with `client`; one outside /usr is mounted at /var/lang, where Lambda has its own."""
    mounts = [Mount(client, MOUNTED_AT)]
    executable = node.executable
    if not node.prefix.is_relative_to(SHARED_WITH_HOST):
        mounts.insert(0, Mount(node.prefix, LANGUAGE_AT))
        executable = LANGUAGE_AT / node.executable.relative_to(node.prefix)
    major = node.version.split(".")[0]
    modules = (f"/opt/nodejs/node{major}/node_modules", "/opt/nodejs/node_modules", f"{MOUNTED_AT}/node_modules")
    digest = _digest(node, client)
    return Runtime(
        name=node.name,
        version=node.version,
        mounts=tuple(mounts),
        argv=(str(executable), _ENTRY),
        variables={
            "LD_LIBRARY_PATH": LIBRARY_PATH,
            "PATH": SEARCH_PATH,
            "NODE_PATH": ":".join((*modules, MOUNTED_AT, "/var/task")),
        },
        digest=digest,
        version_arn=f"arn:aws:lambda:{region}::runtime:{digest}",
        adapt=lambda circumstances: _command(str(executable), circumstances),
    )


def _command(executable: str, circumstances: Circumstances) -> tuple[str, ...]:
    """V8 sees the machine's memory, not the function's limit, and must be told."""
    old, semi = (int(circumstances.memory_mib * share) for share in (_OLD_SPACE_SHARE, _SEMI_SPACE_SHARE))
    heap = (f"--max-old-space-size={old}", f"--max-semi-space-size={semi}")
    return (executable, "--expose-gc", *heap, "--require", f"{MOUNTED_AT}/{BOOTSTRAP}", _ENTRY)


# --- the client -------------------------------------------------------------------------------------------------------


def bootstrap_file() -> bytes:
    """Our own file of the client folder."""
    return (resources.files("thaw.runtimes") / "bootstrap" / BOOTSTRAP).read_bytes()


async def client_folder(node: Node, runtimes_dir: Path, progress: Progress) -> Path:
    """The complete client folder for `node`, installing it if it is not there yet.

    Raises `RuntimeNotFound` when npm cannot install or compile it; its last words are in the sentence.
    """
    digest = hashlib.sha256(f"{node.version}\0{CLIENT}\0".encode() + bootstrap_file()).hexdigest()[:16]
    name = f"{node.name}-{digest}"
    if (runtimes_dir / name / COMPLETE).is_file():
        return runtimes_dir / name
    npm = _require_tools(node)
    progress(f"Installing the runtime interface client for {node.name} (once, about a minute) ...")
    folder = await complete_folder(runtimes_dir, name, lambda part: _fill(part, node, npm))
    progress(f"Installed {CLIENT} for {node.name}.")
    return folder


def _require_tools(node: Node) -> str:
    """The npm that belongs to `node`, or another one."""
    beside = node.executable.parent / "npm"
    npm = str(beside) if os.access(beside, os.X_OK) else shutil.which("npm")
    absent = [tool for tool in _BUILD_TOOLS if shutil.which(tool) is None]
    if npm is None:
        absent.insert(0, "npm")
    if absent or npm is None:
        raise RuntimeNotFound(
            f"The runtime interface client for {node.name} cannot be built, because this machine lacks "
            f"{', '.join(absent)}: install what is missing and try again."
        )
    return npm


async def _fill(part: Path, node: Node, npm: str) -> list[str]:
    building = part / "building"
    building.mkdir()
    (building / "package.json").write_text('{"private": true}')
    path = f"{node.executable.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    variables = {"PATH": path, "npm_config_cache": str(building / ".npm"), "npm_config_update_notifier": "false"}
    if (node.prefix / "include" / "node" / "node_api.h").is_file():
        variables["npm_config_nodedir"] = str(node.prefix)  # else its headers are fetched from nodejs.org
    command = [npm, "install", "--prefix", str(building), "--no-audit", "--no-fund", "--no-save", CLIENT]
    status, said = await run(command, variables)
    native = building / "node_modules" / "aws-lambda-ric" / "rapid-client.node"
    if status != 0 or not native.is_file():
        raise RuntimeNotFound(
            f"The runtime interface client for {node.name} could not be installed, because npm says "
            f"{_last_words(said)!r}: make a package registry reachable (npm's own configuration) and try again."
        )
    return _keep(building / "node_modules", part)


def _keep(modules: Path, part: Path) -> list[str]:
    for name in _KEPT:
        source, target = modules / name, part / "node_modules" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    store = json.loads((modules / "@aws/lambda-invoke-store/package.json").read_text())
    shutil.rmtree(modules.parent)
    (part / BOOTSTRAP).write_bytes(bootstrap_file())
    return [CLIENT, f"{store['name']}@{store['version']}"]


def _last_words(said: str) -> str:
    """npm's first error line that tells something, else its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("npm error ") for line in lines if line.startswith("npm error ")]
    telling = [line for line in errors if not line.startswith(("code ", "path ", "command ", "A complete log"))]
    return (telling or errors or lines or ["nothing"])[-1 if telling else 0]


def _digest(node: Node, client: Path) -> str:
    """SHA-256, in hex, over what identifies the bytes; raises `FileNotFoundError` if a part is gone."""
    status = node.executable.stat()
    digest = hashlib.sha256(f"{node.version}\0{client.name}\0".encode())
    digest.update(f"{node.executable}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    digest.update((client / COMPLETE).read_bytes())
    return digest.hexdigest()
