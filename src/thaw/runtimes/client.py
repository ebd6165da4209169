"""The folder that a Python function's sandbox has as /var/runtime: our bootstrap, the runtime interface client, the AWS
SDK.

It is installed once per interpreter version, by pip, from PyPI or whatever index pip is configured for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from importlib import resources
from pathlib import Path

from thaw.errors import RuntimeNotFound
from thaw.runtimes.installation import COMPLETE, Progress, complete_folder, run
from thaw.runtimes.interpreters import Interpreter

REQUIREMENTS = (
    "awslambdaric==4.2.2; python_version >= '3.10'",
    "awslambdaric==4.0.4; python_version < '3.10'",
    "snapshot-restore-py==1.0.0",
    "boto3>=1.40; python_version >= '3.10'",
    "boto3; python_version < '3.10'",
)
MOUNTED_AT = "/var/runtime"
BOOTSTRAP = "bootstrap.py"


def bootstrap_files() -> dict[str, bytes]:
    """Our own files of the client folder, by name."""
    folder = resources.files("thaw.runtimes") / "bootstrap"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(".py")}


def client_digest(interpreter: Interpreter) -> str:
    """Hex name of what would be installed: other requirements, bootstrap or interpreter, other folder."""
    digest = hashlib.sha256(interpreter.version.encode())
    for requirement in REQUIREMENTS:
        digest.update(b"\0" + requirement.encode())
    for name, content in sorted(bootstrap_files().items()):
        digest.update(b"\0" + name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


async def client_folder(
    interpreter: Interpreter, runtimes_dir: Path, *, index_url: str | None = None, progress: Progress
) -> Path:
    """The complete client folder for `interpreter`, installing it if it is not there yet.

    Raises `RuntimeNotFound` when pip cannot install it; pip's last words are in the sentence.
    """
    name = f"{interpreter.name}-{client_digest(interpreter)}"
    if (runtimes_dir / name / COMPLETE).is_file():
        return runtimes_dir / name
    progress(f"Installing the runtime interface client for {interpreter.name} (once, about 15 seconds) ...")
    folder = await complete_folder(runtimes_dir, name, lambda part: _fill(part, interpreter, index_url))
    progress(f"Installed {(folder / COMPLETE).read_text().replace(os.linesep, ' ').strip()} for {interpreter.name}.")
    return folder


async def _fill(part: Path, interpreter: Interpreter, index_url: str | None) -> list[str]:
    await _install(part, interpreter, index_url)
    for name, content in bootstrap_files().items():
        (part / name).write_bytes(content)
    await _compile(part, interpreter)
    return sorted(entry.name.removesuffix(".dist-info") for entry in part.glob("*.dist-info"))


async def _install(part: Path, interpreter: Interpreter, index_url: str | None) -> None:
    """Tries our own pip, which can work for another interpreter, then that interpreter's own."""
    arguments = ["install", "--quiet", "--no-compile", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    arguments += ["--root-user-action=ignore", "--target", str(part), *REQUIREMENTS]
    if index_url:
        arguments += ["--index-url", index_url]
    said = ""
    for pip in (
        [sys.executable, "-m", "pip", "--python", str(interpreter.executable)],
        [str(interpreter.executable), "-m", "pip"],
    ):
        status, said = await run([*pip, *arguments])
        if status == 0:
            return
        shutil.rmtree(part)
        part.mkdir(mode=0o755)
    raise RuntimeNotFound(
        f"The runtime interface client for {interpreter.name} could not be installed, because pip says "
        f"{_last_line(said)!r}: make a package index reachable (THAW_PYTHON_INDEX_URL, or pip's own "
        "configuration) and try again."
    )


async def _compile(part: Path, interpreter: Interpreter) -> None:
    """Writes .pyc files now: in the sandbox the folder is read-only, and every start would compile again.

    They carry the path that the sandbox sees, and are not checked against their sources (nobody edits these).
    """
    status, said = await run(
        [str(interpreter.executable), "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash",
         "-s", str(part), "-p", MOUNTED_AT, str(part)]
    )  # fmt: skip
    if status != 0:
        raise RuntimeNotFound(
            f"The runtime interface client for {interpreter.name} could not be compiled, because "
            f"{_last_line(said)!r}: check that the interpreter {interpreter.executable} is complete."
        )


def _last_line(text: str) -> str:
    """The line that tells most: pip's last "ERROR:", else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["nothing"])[-1]
