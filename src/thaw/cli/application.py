"""Which commands there are, and how their errors reach people: one sentence, no trace."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from thaw.cli import bench, demo, deploy, doctor, lint, logs, publish, runtime, serve, snapshot
from thaw.cli.inspection import inspect
from thaw.cli.local import commands as local
from thaw.errors import ThawError

application = typer.Typer(
    name="thaw",
    help="An open, Lambda-compatible function platform that starts functions from snapshots.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
application.command("serve")(serve.serve)
application.command("demo")(demo.demo)
application.command("publish")(publish.publish)
application.command("logs")(logs.logs)
application.command("deploy")(deploy.deploy)
application.add_typer(local.application)
application.add_typer(doctor.application)
application.command("lint")(lint.lint)
application.command("bench")(bench.bench)
snapshot.application.command("inspect")(inspect)
application.add_typer(snapshot.application)
application.add_typer(runtime.application)


def run() -> None:
    """Runs the command of sys.argv; errors that people can mend end the process with status 1 and one sentence."""
    try:
        application()
    except ThawError as error:
        _end(str(error))
    except OSError as error:  # a full disk, a folder without permission, a file that went away
        if isinstance(error, BrokenPipeError):
            raise
        _end(f"{error.filename or 'The command'} could not be used: {error.strerror or error}.")


def _end(sentence: str) -> NoReturn:
    print(f"thaw: {sentence}", file=sys.stderr)
    raise SystemExit(1) from None
