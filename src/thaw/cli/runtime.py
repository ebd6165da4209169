"""`thaw runtime ls|add`: which language runtimes functions can have on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from thaw.cli.screen import wide_console

application = typer.Typer(
    name="runtime", help="List the runtimes for functions, or name another folder with one.", no_args_is_help=True
)
StateDir = Annotated[
    Path | None, typer.Option(help="State folder of the server", show_default="THAW_STATE_DIR, /var/lib/thaw")
]


@application.command("ls")
def ls(state_dir: StateDir = None) -> None:
    """List what this machine has, by family, newest first. Of two with the same name functions get the first."""
    from rich.markup import escape
    from rich.table import Table

    from thaw.runtimes import Runtimes

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("runtime", "version", "folder"):
        table.add_column(heading)
    for each in asyncio.run(Runtimes(_state_dir(state_dir)).installed()):
        table.add_row(each.name, each.version, escape(str(each.folder or "in the function's package")))
    wide_console().print(table)


@application.command("add")
def add(
    folder: Annotated[Path, typer.Argument(help="Where a Python or a JDK lies: the folder that has bin/ in it")],
    state_dir: StateDir = None,
) -> None:
    """Let functions have the runtimes of a folder; servers with this state folder see them at once."""
    from thaw.runtimes.added import add_folder

    for each in asyncio.run(add_folder(_state_dir(state_dir), folder)):
        wide_console().print(f"Functions can have {each.name} now ({each.version} in {each.folder}).", markup=False)


def _state_dir(given: Path | None) -> Path:
    from thaw.config import read_settings

    return read_settings(state_dir=given).state_dir
