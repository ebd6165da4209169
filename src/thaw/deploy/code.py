"""Code that lies beside a template, as deployment packages: folders are zipped, zips and jars are taken as they are."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from thaw.errors import TemplateError

BUCKET = "thaw-code-beside-the-template"
"""Stands in a transformed template for code that is not in S3; the key is the package's digest."""
# What tools leave in source folders: it is no part of a function, and it would change the package's digest.
_LEFT_OUT = frozenset(("__pycache__", ".git", ".aws-sam", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".DS_Store"))
# The earliest moment that a zip can hold: the same content gives the same package whenever it is built.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_ARCHIVES = (".zip", ".jar")
_INLINE = {"python": "index.py", "nodejs": "index.js"}


@dataclass(frozen=True)
class Code:
    """Code of one resource on this machine; the package is made when it is first asked for."""

    path: Path

    @cached_property
    def package(self) -> bytes:
        """The zip. Raises TemplateError where there is nothing to pack."""
        return package_of(self.path)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the package."""
        return hashlib.sha256(self.package).hexdigest()


def code_at(path: Path, where: str) -> Code:
    """The code at `path`; raises TemplateError where nothing is there, naming the place in the template."""
    if not path.exists():
        raise TemplateError(f"{where} names {path}, which is not there: build the function first, or correct the path.")
    return Code(path)


def package_of(path: Path) -> bytes:
    """The deployment package of a folder, an archive or a single file."""
    if path.is_file() and path.suffix.lower() in _ARCHIVES:
        return path.read_bytes()
    if path.is_file():
        return _zipped({path.name: path})
    files = {str(file.relative_to(path)): file for file in files_of(path)}
    if not files:
        raise TemplateError(f"The code folder {path} has no files: put the function's code there.")
    return _zipped(files)


def files_of(path: Path) -> list[Path]:
    """All files of a package, sorted; what is left out of packages is left out here, too."""
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in found if not _LEFT_OUT.intersection(file.relative_to(path).parts))


def left_out(path: Path) -> bool:
    """Whether a change of this file says nothing about a package."""
    return bool(_LEFT_OUT.intersection(path.parts))


def not_built(path: Path) -> str | None:
    """A sentence on dependencies that a code folder names and does not hold, or None."""
    wanted = path / "requirements.txt"
    if wanted.is_file() and not any(path.glob("*.dist-info")):
        lines = (line.partition("#")[0].strip() for line in wanted.read_text(errors="replace").splitlines())
        if any(lines):
            return f"What {wanted} names is not in the package: run `sam build`, and use .aws-sam/build/template.yaml."
    return None


def inline_package(source: str, runtime: str) -> bytes:
    """The package of `Code.ZipFile`: one module called index, as CloudFormation makes it."""
    name = next((name for prefix, name in _INLINE.items() if runtime.startswith(prefix)), "index.py")
    return _archive({name: (stat.S_IFREG | 0o644, source.encode())})


def _zipped(files: dict[str, Path]) -> bytes:
    return _archive({name: (_mode(file), file.read_bytes()) for name, file in files.items()})


def _mode(file: Path) -> int:
    """Readable for all, executable where the owner may execute it: other bits differ from checkout to checkout."""
    executable = file.stat().st_mode & stat.S_IXUSR
    return stat.S_IFREG | (0o755 if executable else 0o644)


def _archive(entries: dict[str, tuple[int, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (mode, content) in sorted(entries.items()):
            info = zipfile.ZipInfo(name, _MOMENT)
            info.create_system = 3  # Unix: the mode counts
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def local_path(value: Any) -> str | None:
    """The path that a CodeUri, ContentUri or Code names, or None where it names something else."""
    if not isinstance(value, str) or value.startswith(("s3://", "https://")):
        return None
    return value
