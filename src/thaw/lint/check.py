"""From files to findings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.lint.execute import Import, is_resource
from thaw.lint.module import Module
from thaw.lint.rules import RULES
from thaw.lint.values import Source

SYNTAX = "TS001"
# Folders in which no handler lives.
SKIPPED = frozenset(
    {"tests", "test", "node_modules", "site-packages", "__pycache__", "venv", "build", "dist", "cdk.out"}
)
_NOQA = re.compile(r"#\s*noqa(?::\s*(?P<codes>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """`line` and `column` begin at 1; `sentence` says what, where it is kept, why that matters, and what to do."""

    path: str
    line: int
    column: int
    code: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.code} {self.sentence}"


def check(source: str, path: str) -> list[Finding]:
    """Findings in one module, by line. One that is no Python gets a single finding TS001."""
    try:
        module = Module(source, path, Path(path).stem)
    except (SyntaxError, ValueError, RecursionError) as error:
        return [_unreadable(path, error)]
    return _findings(module, {module.name: module})


def check_paths(paths: Iterable[Path], *, every: bool = False) -> list[Finding]:
    """Findings in files and folders, by path and line.

    Of a folder that has handlers only modules are looked at that these import, directly or not; with `every`, all. A
    file that is named is always looked at. One that cannot be read gets a finding TS001.
    """
    return check_and_count(paths, every=every)[0]


def check_and_count(paths: Iterable[Path], *, every: bool = False) -> tuple[list[Finding], int]:
    """As `check_paths`, and how many files were looked at."""
    found: set[Finding] = set()
    files = 0
    for path in paths:
        for looked_at in _check_folder(path, every) if path.is_dir() else [_check_file(path)]:
            files += 1
            found.update(looked_at)
    return sorted(found), files


def _check_file(path: Path) -> list[Finding]:
    try:
        return check(_text(path), str(path))
    except OSError as error:
        return [_unreadable(str(path), error)]


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise OSError(0, "it is no regular file")  # reading a pipe would wait for a writer
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _check_folder(folder: Path, every: bool) -> Iterator[list[Finding]]:
    """The findings of one file after the other."""
    modules: list[Module] = []
    for file in _files(folder):
        try:
            modules.append(_module(folder, file))
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            yield [_unreadable(str(file), error)]
    for module, near in _reached(modules, every):
        yield _findings(module, near)


def _files(folder: Path) -> Iterator[Path]:
    for path, names, files in os.walk(folder):
        installed = _installed(Path(path), names)
        names[:] = sorted(one for one in names if one not in SKIPPED and one not in installed and one[0] != ".")
        yield from (
            Path(path, file)
            for file in sorted(files)
            if file.endswith(".py") and file[0] != "." and file not in installed
        )


def _installed(folder: Path, names: Sequence[str]) -> set[str]:
    """First path components of what pip installed into `folder`: not the function's own code."""
    found: set[str] = set()
    for name in names:
        record = folder / name / "RECORD"
        if name.endswith(".dist-info") and record.is_file():
            found |= {line.partition(",")[0].split("/")[0] for line in _text(record).splitlines()}
    return found


def _module(folder: Path, file: Path) -> Module:
    parts = list(file.relative_to(folder).with_suffix("").parts)
    package = parts[:-1]
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return Module(_text(file), str(file), ".".join(parts), ".".join(package))


def _reached(modules: Sequence[Module], every: bool) -> Iterator[tuple[Module, dict[str, Module]]]:
    """Modules to look at, each with those that its imports may mean.

    A repository may have many functions, each with its own folder as root: a name means the module whose path ends so
    and that is nearest.
    """
    by_last: dict[str, list[Module]] = {}
    for module in modules:
        by_last.setdefault(module.name.rpartition(".")[2], []).append(module)
    handlers = [module for module in modules if module.has_handler]
    left = list(modules) if every or not handlers else handlers
    done: set[str] = set()
    while left:
        module = left.pop()
        if module.path not in done:
            done.add(module.path)
            near = _imported(module, by_last)
            yield module, near | {module.name.rpartition(".")[2]: module}
            left += near.values()


def _imported(module: Module, by_last: Mapping[str, Sequence[Module]]) -> dict[str, Module]:
    found: dict[str, Module] = {}
    for name in module.imports.modules:
        candidates = by_last.get(name.rpartition(".")[2], ())
        fits = [one for one in candidates if one is not module and f".{one.name}".endswith(f".{name}")]
        if fits:
            found[name] = max(fits, key=lambda one: len(os.path.commonpath([one.path, module.path])))
    return found


# --- one module -------------------------------------------------------------------------------------------------------


def _findings(module: Module, modules: dict[str, Module]) -> list[Finding]:
    lines = module.source.splitlines()
    found: dict[tuple[int, int, str], Finding] = {}
    read_elsewhere = _read_elsewhere(module, modules)
    for source, keeper in Import(module, modules).follow():
        if source.at.path == module.path and not _is_fine(module, source, keeper, read_elsewhere):
            key = (source.at.line, source.at.column, source.code)
            if key not in found and not _is_silenced(source, lines):
                found[key] = _finding(source, keeper)
    return sorted(found.values())


def _read_elsewhere(module: Module, modules: dict[str, Module]) -> bool:
    """A module without a handler is there for others: they may read what it keeps."""
    return not module.has_handler and (len(modules) > 1 or not module.functions)


def _is_fine(module: Module, source: Source, keeper: str, read_elsewhere: bool) -> bool:
    """Whether hooks make it anew, or nobody will read it."""
    root = keeper.partition(".")[0]
    if root in module.hooks.renewed or (is_resource(source) and root in module.hooks.ended):
        return True
    if source.code == "TS103":
        return module.hooks.seeds
    # Times of the import's own duration are read at module level only.
    return source.code == "TS121" and keeper == root and root not in module.read_later and not read_elsewhere


def _is_silenced(source: Source, lines: list[str]) -> bool:
    """`# noqa` or `# noqa: TS101` on a line of the expression."""
    for line in lines[source.at.line - 1 : source.at.last_line]:
        if (match := _NOQA.search(line)) is not None:
            codes = match["codes"]
            if codes is None or source.code in re.split(r"[\s,]+", codes.upper()):
                return True
    return False


def _finding(source: Source, keeper: str) -> Finding:
    rule = RULES[source.code]
    at = source.at
    where = f" (line {source.line})" if source.line != at.line else ""
    kept = f" and kept in {keeper}" if keeper else ""
    done = "os.environ[...] is read" if source.call == "os.environ" else f"{source.call}(){where} is called"
    sentence = f"{done} during Init{kept}: {rule.sentence}."
    return Finding(at.path, at.line, at.column, source.code, sentence)


def _unreadable(path: str, error: Exception) -> Finding:
    line = getattr(error, "lineno", None) or 1
    if isinstance(error, OSError):
        return Finding(path, line, 1, SYNTAX, f"The file cannot be read ({error.strerror}): nothing in it was checked.")
    reason = getattr(error, "msg", None) or str(error) or type(error).__name__
    return Finding(path, line, 1, SYNTAX, f"The file cannot be read as Python ({reason}): nothing in it was checked.")
