"""Precision and recall of `thaw lint` on public handlers: `make bench-lint CORPUS=folder`.

lint_labels.json names public repositories, one commit of each, and the lines in them that clones would share; every
other line is a negative. No code of theirs is kept here. The corpus is a folder with one git repository (a clone or a
bare one) or one plain folder per entry, named `owner+name`; repositories that are absent are named and left out. The
labels were made by reading every module-level line that a search for some forty names found, and every finding.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw.lint import check_paths
from thaw.lint.check import SYNTAX

LABELS = Path(__file__).with_name("lint_labels.json")
Line = tuple[str, int, str]
"""Path in its repository, line, code."""


@dataclass
class Score:
    """Findings and labels, summed over repositories."""

    files: int = 0
    found: int = 0
    labelled: int = 0
    right: int = 0
    unreadable: int = 0
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """Share of the findings that are labelled; 1.0 where nothing was found."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the labels that were found; 1.0 where there is none."""
        return self.right / self.labelled if self.labelled else 1.0

    def add(self, name: str, files: int, found: set[Line], labelled: set[Line], unreadable: int) -> None:
        """Counts one repository."""
        self.files += files
        self.found += len(found)
        self.labelled += len(labelled)
        self.right += len(found & labelled)
        self.unreadable += unreadable
        self.wrong += [f"{name}/{path}:{line} {code}" for path, line, code in sorted(found - labelled)]
        self.missed += [f"{name}/{path}:{line} {code}" for path, line, code in sorted(labelled - found)]


@contextmanager
def sources(folder: Path, commit: str) -> Iterator[Path]:
    """The Python files of a commit in a folder of their own; a plain folder is taken as it is."""
    git = next((one for one in (folder / ".git", folder / "repo" / ".git", folder / "repo") if one.is_dir()), None)
    if git is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="thaw-lint-") as target:
        _unpack(git, commit, Path(target))
        yield Path(target)


def _unpack(git: Path, commit: str, target: Path) -> None:
    command = ["git", "--git-dir", str(git)]
    listing = subprocess.run([*command, "ls-tree", "-r", "-z", commit], capture_output=True, text=True, check=True)
    for entry in listing.stdout.split("\0"):
        meta, _, path = entry.partition("\t")
        if path.endswith(".py") and meta.startswith("100"):
            blob = subprocess.run([*command, "cat-file", "blob", meta.split()[2]], capture_output=True, check=True)
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(blob.stdout)


def measure(corpus: Path, labels: dict[str, Any]) -> dict[str, Score]:
    """Scores: of all repositories, and of those of AWS's samples."""
    scores = {"all": Score(), "aws-samples": Score()}
    for name, entry in labels.items():
        folder = corpus / name.replace("/", "+")
        if not folder.is_dir():
            print(f"absent, and left out: {name}")
            continue
        with sources(folder, entry["commit"]) as root:
            found = check_paths([root])
            lines = {(str(Path(one.path).relative_to(root)), one.line, one.code) for one in found}
            read = {line for line in lines if line[2] != SYNTAX}
            labelled = {(path, line, code) for path, line, code in entry["shared"]}
            files = sum(1 for _ in root.rglob("*.py"))
            for group in ("all", name.split("/")[0]):
                if group in scores:
                    scores[group].add(name, files, read, labelled, len(lines) - len(read))
    return scores


def main() -> None:
    """The command line: the corpus's folder."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit("Name the folder with the repositories of lint_labels.json: make bench-lint CORPUS=folder")
    for group, score in measure(Path(sys.argv[1]), json.loads(LABELS.read_text())).items():
        print(
            f"{group}: {score.files} files, {score.found} findings, {score.labelled} labels: "
            f"precision {score.precision:.3f}, recall {score.recall:.3f}; {score.unreadable} files not read"
        )
        for sign, lines in (("wrong ", score.wrong), ("missed", score.missed)):
            for line in lines:
                print(f"  {sign} {line}")


if __name__ == "__main__":
    main()
