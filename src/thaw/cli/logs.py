"""`thaw logs FUNCTION`: what the function wrote and what the platform reported, from the server's state folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from thaw.observe.log_follower import LogFollower as LogReader

__all__ = ["LogReader", "logs"]

FOLLOW_PERIOD_S = 0.2


def logs(
    function: Annotated[str, typer.Argument(help="Name of the function, or a log group such as /my/group")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C")] = False,
    streams: Annotated[bool, typer.Option("--streams", help="Say before each line which stream it is from")] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="State folder of the server", show_default="THAW_STATE_DIR, /var/lib/thaw")
    ] = None,
) -> None:
    """Print the log of a function, oldest line first."""
    from thaw.config import read_settings

    group = function if "/" in function else f"/aws/lambda/{function}"
    folder = read_settings(state_dir=state_dir).state_dir / "logs" / group.strip("/")
    if not folder.is_dir() and not follow:
        typer.echo(f"thaw: There is no log at {folder}: call the function first, or name its --state-dir.", err=True)
        raise typer.Exit(1)
    reader = LogReader(folder)
    while True:
        for moment, stream, text in reader.new_events():
            typer.echo(_line(moment, f"{stream} {text}" if streams else text))
        if not follow:
            return
        time.sleep(FOLLOW_PERIOD_S)


def _line(moment_ms: int, text: str) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment_ms / 1000))
    return f"{seconds}.{moment_ms % 1000:03d}Z {text}"
