"""What `thaw doctor uniqueness` prints."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thaw.cli.screen import progress, wide_console
from thaw.cli.stopping import stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from thaw.cli.uniqueness.comparing import Compared


def uniqueness(
    clones: Annotated[int, typer.Option(help="Clones of one snapshot to compare", min=2)] = 2000,
    runtime: Annotated[str | None, typer.Option(help="As python3.13", show_default="the newest here")] = None,
    without_packages: Annotated[
        bool, typer.Option("--without-packages", help="Leave numpy and cryptography out")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document")] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="State folder of the server; its installed runtimes are used")
    ] = None,
) -> None:
    """Compare thousands of clones: which sources of random numbers differ, by whom, and which repeat.

    The exit status is 1 where a source behaves otherwise than documented.
    """
    from thaw.config import read_settings

    runtimes = read_settings(state_dir=state_dir).state_dir / "runtimes"
    console = wide_console()
    began = time.monotonic()
    with stoppable():
        compared = _compare(console, runtimes, clones, runtime, packages=not without_packages)
    if as_json:
        typer.echo(json.dumps([_document(one) for one in compared], indent=1))
    else:
        _show(console, compared, time.monotonic() - began)
    if not all(one.as_expected for one in compared):
        raise typer.Exit(1)


def _compare(console: Console, runtimes: Path, clones: int, runtime: str | None, *, packages: bool) -> list[Compared]:
    from thaw.cli.process import lambda_client, serving
    from thaw.cli.uniqueness import comparing

    runtime = comparing.python_for(runtimes, runtime)
    with _temporary_state(runtimes) as state_dir, progress(console) as step:
        content = state_dir / "no packages"
        if packages:
            step(f"installing numpy and cryptography for {runtime} (once)")
            content = asyncio.run(comparing.packages_folder(runtimes, runtime))
        step("starting a server, and publishing a function with SnapStart")
        with serving(state_dir, idle_timeout_s=0) as server:
            package = comparing.probe_package(content)
            client = lambda_client(server.url)
            version = comparing.publish_probe(client, runtime, package)
            step(f"calling it in {clones} clones")
            compared = comparing.compare(comparing.draw(server.url, version, clones, step.counter(clones)))
            step("publishing a function with a child process")
            version = comparing.publish_probe(client, runtime, package, comparing.CHILDREN)
            trees = max(2, clones // comparing.CHILDREN_SHARE)
            step(f"calling it in {trees} clones")
            samples = comparing.draw(server.url, version, trees, step.counter(trees), comparing.CHILDREN)
    return compared + comparing.compare(samples)


@contextmanager
def _temporary_state(runtimes: Path) -> Iterator[Path]:
    """A state folder that shares the installed runtimes of another, and those that were added to it."""
    from thaw.runtimes.added import share_folders

    folder = Path(tempfile.mkdtemp(prefix="thaw-uniqueness-"))
    try:
        runtimes.mkdir(parents=True, exist_ok=True)
        (folder / "runtimes").symlink_to(runtimes.resolve())
        share_folders(runtimes.parent, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def _document(one: Compared) -> dict[str, object]:
    return {
        "source": one.source.name, "clones": one.clones, "distinct": one.distinct, "expected": one.source.expected,
        "as_expected": one.as_expected, "by": one.source.by, "advice": one.source.advice,
    }  # fmt: skip


def _show(console: Console, compared: list[Compared], seconds: float) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("source", no_wrap=True)
    table.add_column("distinct", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("by or because")
    table.add_column("what to do")
    for one in sorted(compared, key=lambda one: ("differs", "by the clock").count(one.source.expected) == 0):
        table.add_row(one.source.name, f"{one.distinct}/{one.clones}", _verdict(one), one.source.by, one.source.advice)
    console.print(table)
    wrong = [one.source.name for one in compared if not one.as_expected]
    repeat = sum(one.source.expected == "repeats" for one in compared)
    by_chance = sum(one.source.expected == "by chance" for one in compared)
    if wrong:
        console.print(f"\n[red]Not as documented[/]: {', '.join(wrong)}.")
        return
    differ = len(compared) - repeat - by_chance
    console.print(
        f"\n{compared[0].clones} clones of one snapshot in {seconds:.1f} s: {differ} sources differ, {by_chance} may "
        f"be equal by chance,\n{repeat} repeat because Init made or fixed them."
    )


def _verdict(one: Compared) -> str:
    if not one.as_expected:
        return "[red]wrong[/]"
    return {"repeats": "[yellow]repeats[/]", "by chance": "[yellow]by chance[/]"}.get(
        one.source.expected, "[green]ok[/]"
    )
