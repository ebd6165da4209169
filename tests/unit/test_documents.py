"""README, CONTRIBUTING and the rest say what is so: commands, settings, links, and what the demonstration prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from thaw.cli.application import application
from thaw.cli.demo import next_lines
from thaw.cli.example import EXAMPLE, HANDLER, Example
from thaw.config import Settings
from thaw.errors import ConfigurationError
from thaw.runtimes.interpreters import NAME

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text()
TARGET = re.compile(r"^([a-z]+):.*## ", re.MULTILINE)
# Settings are variables of the server; this one is for the function, and documented with the hooks.
VARIABLE = re.compile(r"\bTHAW_[A-Z0-9_]+\b")


def commands() -> set[str]:
    return set(typer.main.get_command(application).commands)  # type: ignore[attr-defined]


def targets() -> set[str]:
    return set(TARGET.findall((ROOT / "Makefile").read_text()))


def table_rows(text: str, first: str) -> dict[str, list[str]]:
    """Rows of the table whose heading begins with `first`, by what stands in backquotes in their first column."""
    lines = text.split(f"| {first} |", 1)[1].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {row[0].strip("`"): row[1:] for row in rows}


def shown_default(name: str) -> str:
    default = Settings.model_fields[name].default
    return "" if default is None else str(default).lower() if isinstance(default, bool) else f"{default}"


def test_every_setting_is_in_the_readme_with_its_default() -> None:
    rows = table_rows(README, "Setting")
    documented, existing = set(rows), {f"THAW_{name.upper()}" for name in Settings.model_fields}
    assert documented == existing, f"README's table of settings lacks, or has too many: {documented ^ existing}"
    wrong = {
        name: (rows[variable][0], shown_default(name))
        for name in Settings.model_fields
        if (variable := f"THAW_{name.upper()}") != "THAW_STATE_DIR"
        and rows[variable][0].strip("`") != shown_default(name)
    }
    assert not wrong, "README's defaults (first) are not the code's"


def test_every_command_and_target_is_documented() -> None:
    missing = [name for name in commands() if f"thaw {name}" not in README]
    assert not missing
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [name for name in targets() - {"help", "setup"} if f"make {name}" not in contributing]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_targets_and_links_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets()
    if document.name != "formats.md":  # there, such words go into keys
        assert set(re.findall(r"`thaw ([a-z]+)", text)) <= commands()
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert not [link for link in links if not (document.parent / link).exists()]
    known = {f"THAW_{name.upper()}" for name in Settings.model_fields} | {"THAW_RESEED", "THAW_PRIME"}
    assert {name for name in VARIABLE.findall(text) if not name.endswith("_")} <= known


def test_folders_of_the_architecture_page_exist() -> None:
    rows = table_rows((ROOT / "docs" / "architecture.md").read_text(), "Folder")
    named = {name for row in rows for name in re.findall(r"[a-z.]+", row)}
    assert not [name for name in named if not (ROOT / "src" / "thaw" / name).exists()]


def test_the_readme_goes_on_as_the_demonstration_does() -> None:
    """The lines for the AWS CLI are those that `thaw demo` prints, whatever the runtime of this machine."""
    file = ROOT / "build" / f"{EXAMPLE}-python3.13.zip"
    lines = next_lines(Example("", "python3.13", HANDLER, b"", b"", file)).splitlines()
    assert max(len(line) for line in lines) <= 80
    commands_printed = [line.strip() for line in lines if "activate" not in line]
    shown = [line.strip() for line in README.splitlines()]
    assert [line for line in commands_printed if NAME.sub("python3.13", line) not in shown] == []


def test_no_document_names_a_machine() -> None:
    for document in DOCUMENTS:
        assert not re.findall(r"/(?:root|home|work|tmp/[a-z0-9])[/\w.-]*", document.read_text()), document.name


def test_unknown_settings_are_told_by_name() -> None:
    from thaw.config import read_settings

    with pytest.raises(ConfigurationError, match="no setting named 'colour'"):
        read_settings(colour="red")
