"""`thaw local invoke` and `thaw local start-api`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thaw.cli.deploy import Overrides
from thaw.cli.stopping import stoppable

if TYPE_CHECKING:
    from thaw.cli.local.workspace import Options

application = typer.Typer(
    name="local", help="Run the functions of a SAM template on this machine, for as long as the command runs.",
    no_args_is_help=True,
)  # fmt: skip
TemplateFile = Annotated[Path, typer.Option("--template", "-t", help="A SAM or CloudFormation template")]
SnapStart = Annotated[
    bool, typer.Option("--snapstart", help="Go through freeze and thaw: Init runs once, each environment is a clone")
]
EnvVars = Annotated[
    Path | None,
    typer.Option("--env-vars", help='JSON file: {"FunctionLogicalId": {"NAME": "value"}}; "Parameters": for all'),
]


@application.command("invoke")
def invoke(
    function: Annotated[str | None, typer.Argument(help="Logical id of the function; without it, the only one")] = None,
    template: TemplateFile = Path("template.yaml"),
    event: Annotated[
        str | None, typer.Option("--event", "-e", help="JSON file with the event, - for standard input; without it, {}")
    ] = None,
    snapstart: SnapStart = False,
    env_vars: EnvVars = None,
    parameter_overrides: Overrides = None,
) -> None:
    """Call one function once: its answer goes to standard output, its log to standard error."""
    from thaw.cli.local.invoking import invoke_once

    options = read_options(template, snapstart, env_vars, parameter_overrides)
    with stoppable():
        payload, failed = invoke_once(options, function, read_event(event), _say)
    sys.stdout.buffer.write(payload + b"\n")
    sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


@application.command("start-api")
def start_api(
    template: TemplateFile = Path("template.yaml"),
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port to listen on, 0: any free one")] = 3000,
    snapstart: SnapStart = False,
    watch: Annotated[
        bool, typer.Option("--watch/--no-watch", help="Take over changes of code and template at once")
    ] = True,
    env_vars: EnvVars = None,
    parameter_overrides: Overrides = None,
) -> None:
    """Serve the template's Api and HttpApi events (or its function URLs) until Ctrl-C."""
    from thaw.cli.local.serving import serve_api

    options = read_options(template, snapstart, env_vars, parameter_overrides)
    with stoppable():
        serve_api(options, host, port, watch=watch, tell=_say)


def read_options(template: Path, snapstart: bool, env_vars: Path | None, overrides: list[str] | None) -> Options:
    """What was asked for. Raises TemplateError where a file or an override is not usable."""
    from thaw.cli.deploy import read_overrides
    from thaw.cli.local.workspace import Options, read_variables

    return Options(template, snapstart, read_overrides(overrides or ()), read_variables(env_vars))


def read_event(source: str | None) -> bytes:
    """The event: JSON of a file or of standard input. Raises TemplateError where it is none."""
    import json

    from thaw.errors import TemplateError

    if source is None:
        return b"{}"
    name = "standard input" if source == "-" else source
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise TemplateError(f"The event {name} cannot be read ({error.strerror}): name a JSON file.") from None
    try:
        json.loads(content)
    except ValueError as error:
        raise TemplateError(f"The event {name} is no JSON ({error}): correct it.") from None
    return content


def _say(text: str) -> None:
    """For people: standard output belongs to the function's answer."""
    print(text, file=sys.stderr, flush=True)
