"""`thaw lint PATH...`: what a snapshot would copy into every clone, found in Python source."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thaw.lint import Finding


class Format(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"


def lint(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files, or folders with handlers")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print findings")] = Format.TEXT,
    every: Annotated[bool, typer.Option("--all", help="Also modules that no handler imports")] = False,
    rules: Annotated[bool, typer.Option("--rules", help="Print the rules, and check nothing")] = False,
) -> None:
    """Find what Init makes and keeps that every clone of a snapshot would share.

    The exit status is 1 where there are findings, and 2 where there are none but a file could not be read. A comment
    `# noqa: TS101` silences a line.
    """
    from thaw.errors import ConfigurationError
    from thaw.lint.check import SYNTAX, check_and_count

    if rules:
        _show_rules()
        return
    if not paths:
        raise typer.BadParameter("Name a file or a folder, such as `thaw lint .`.", param_hint="PATH")
    found, files = check_and_count(_existing(paths), every=every)
    if not files:
        raise ConfigurationError(
            f"There is no Python file in {', '.join(map(str, paths))}, so nothing was checked: name the folder of a "
            "function's code, or a file."
        )
    _show(found, files, output)
    if found:
        raise typer.Exit(1 if any(one.code != SYNTAX for one in found) else 2)


def _existing(paths: list[Path]) -> list[Path]:
    from thaw.errors import ConfigurationError

    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"{path} cannot be checked, because it is not there: name a file or a folder.")
    return paths


def _show_rules() -> None:
    from rich.table import Table

    from thaw.cli.screen import wide_console
    from thaw.lint import RULES

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for rule in RULES.values():
        table.add_row(f"[bold]{rule.code}[/]", rule.title, rule.sentence)
    wide_console().print(table)


def _show(found: list[Finding], files: int, output: Format) -> None:
    if output is Format.JSON:
        typer.echo(json.dumps([asdict(one) for one in found], indent=1))
    elif output is Format.SARIF:
        from importlib.metadata import version

        from thaw.lint.sarif import sarif

        typer.echo(json.dumps(sarif(found, version("thaw")), indent=1))
    else:
        for one in found:
            typer.echo(one)
        typer.echo(_summary(found, files), err=True)


def _summary(found: list[Finding], checked: int) -> str:
    if not found:
        return f"Nothing was found in {_files(checked)} that clones of a snapshot would share."
    findings = "1 finding" if len(found) == 1 else f"{len(found)} findings"
    return f"{findings} in {_files(len({one.path for one in found}))}; `thaw lint --rules` explains the codes."


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"
