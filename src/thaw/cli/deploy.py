"""`thaw deploy template.yaml`: functions of a SAM or CloudFormation template, onto a server, through the Lambda API."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thaw.cli.screen import progress, wide_console
from thaw.cli.stopping import stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from thaw.deploy.change import Change, Context
    from thaw.deploy.deployment import Deployed
    from thaw.deploy.plan import Plan
    from thaw.deploy.template import Template

DEFAULT_URL = "http://127.0.0.1:3001"
_COLOURS = {"+": "green", "~": "yellow", "-": "red"}
_LONGEST_VALUE = 70
_MOST_ERRORS = 3

Overrides = Annotated[
    list[str] | None,
    typer.Option("--parameter-overrides", help="Name=value of a parameter; several in one text, or the option again"),
]


def deploy(
    template: Annotated[Path, typer.Argument(help="A SAM or CloudFormation template")] = Path("template.yaml"),
    stack_name: Annotated[
        str | None, typer.Option(help="Name of the stack; without it, that of the template's folder")
    ] = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option(help="The server", show_default=f"AWS_ENDPOINT_URL_LAMBDA, AWS_ENDPOINT_URL, {DEFAULT_URL}"),
    ] = None,
    parameter_overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--diff", help="Show what would change, and change nothing")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove everything that the stack has made")] = False,
) -> None:
    """Bring a server to what a template says: functions, versions, aliases, layers, URLs, permissions.

    The second time, nothing changes. Where a step fails, everything is put back as it was.
    """
    from thaw.deploy.asking import place_of
    from thaw.deploy.change import Context
    from thaw.deploy.deployment import remove as remove_stack
    from thaw.deploy.ownership import stack_name as as_stack_name
    from thaw.deploy.template import load

    console = wide_console()
    client = api_client(endpoint_url)
    stack = as_stack_name(stack_name or template.absolute().parent.name)
    place = place_of(client)
    if remove:
        with progress(console) as step:
            count = remove_stack(Context(client, place, stack), step)
        console.print(f"Removed the stack {stack}: {count} deleted.")
        return
    loaded = load(template, stack=stack, place=place, overrides=read_overrides(parameter_overrides or ()))
    context = Context(client, place, stack, loaded.codes)
    console.print(f"Stack [bold]{stack}[/], from {template}, at {client.meta.endpoint_url}\n")
    with stoppable():
        _bring(console, context, loaded, dry_run=dry_run)


def _bring(console: Console, context: Context, template: Template, *, dry_run: bool) -> None:
    from thaw.deploy.deployment import deploy as carry_out
    from thaw.deploy.plan import plan
    from thaw.errors import DeployFailed

    planned = plan(context, template)
    show_plan(console, planned, secrets_of(template))
    if planned.is_empty:
        has_any = "the server has what the template says" if planned.changes else "nothing in the template is Lambda's"
        console.print(f"Nothing changes: {has_any}.")
        _show_outputs(console, template.outputs(planned.attributes))
        return
    if dry_run:
        console.print("Nothing was changed (--dry-run).")
        return
    began, moment_ms = time.monotonic(), int(time.time() * 1000)
    try:
        with progress(console) as step:
            done = carry_out(context, template, step)
    except DeployFailed:
        names = [one.attributes[""] for one in planned.changes if one.title.startswith("function ")]
        _show_errors(console, api_client(context.client.meta.endpoint_url, "logs"), names, moment_ms)
        raise
    console.print(f"\n{_summary(done)} in {time.monotonic() - began:.1f} s.")
    outputs = template.outputs(done.attributes)
    urls = {one: found["FunctionUrl"] for one, found in done.attributes.items() if "FunctionUrl" in dict(found)}
    _show_outputs(console, outputs | {name: url for name, url in urls.items() if url not in outputs.values()})


def api_client(url: str | None, service: str = "lambda") -> Any:
    """A boto3 client of the server: keys and region as the AWS tools find them, stand-ins where there are none.

    Raises ConfigurationError where the address is none.
    """
    import boto3
    from botocore.config import Config

    from thaw.errors import ConfigurationError

    found = url or os.environ.get("AWS_ENDPOINT_URL_LAMBDA") or os.environ.get("AWS_ENDPOINT_URL") or DEFAULT_URL
    if not re.match(r"https?://[^/\s]", found):
        raise ConfigurationError(f"{found} is no address of a server: write it as {DEFAULT_URL}.")
    session = boto3.Session()
    keys = {} if session.get_credentials() else {"aws_access_key_id": "thaw", "aws_secret_access_key": "thaw"}
    config = Config(retries={"total_max_attempts": 1}, read_timeout=960)
    region = session.region_name or "us-east-1"
    return session.client(service, endpoint_url=found, region_name=region, config=config, **keys)


def read_overrides(texts: Sequence[str]) -> dict[str, str]:
    """Name=value pairs, several in one text as the SAM CLI takes them. Raises TemplateError."""
    from thaw.errors import TemplateError

    found: dict[str, str] = {}
    for pair in (pair for text in texts for pair in shlex.split(text)):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise TemplateError(f"{pair!r} is no parameter override: write it as Name=value.")
        found[name] = value
    return found


# --- what people see --------------------------------------------------------------------------------------------------


def secrets_of(template: Template) -> tuple[str, ...]:
    """Values of parameters with NoEcho: they are not shown."""
    declared: Mapping[str, Any] = template.document.get("Parameters") or {}
    hidden = (str(template.values[name]) for name, one in declared.items() if str(one.get("NoEcho")).lower() == "true")
    return tuple(value for value in hidden if value)


def show_plan(console: Console, plan: Plan, secrets: Sequence[str] = ()) -> None:
    """The diff: a sign, the resource, and setting by setting what changes."""
    from rich.markup import escape

    from thaw.deploy.change import Action

    changed = [change for change in (*plan.changes, *plan.removed) if change.action is not Action.KEEP]
    width = max((len(change.logical_id) for change in changed), default=0)
    for change in changed:
        colour = _COLOURS[change.action.value]
        heading = f"{change.logical_id:{width}}  {escape(change.title)}"
        console.print(f"  [{colour}]{change.action.value}[/] {heading}", soft_wrap=True)
        for line in _lines(change, secrets):
            console.print(f"      {escape(line)}", style="dim")
    if changed:
        console.print()
    told = [*plan.notes, *(left_out.sentence for left_out in plan.left_out)] if changed or not plan.changes else []
    for sentence in told:
        console.print(f"  [dim]{escape(sentence)}[/]", soft_wrap=True)
    if told:
        console.print()


def _lines(change: Change, secrets: Sequence[str]) -> list[str]:
    width = max((len(one.name) for one in change.differences), default=0)
    lines = []
    for one in change.differences:
        before, after = _shown(one.before, secrets), _shown(one.after, secrets)
        text = after if one.before is None else before if one.after is None else f"{before} → {after}"
        gone = " (no more)" if one.after is None and one.before is not None else ""
        lines.append(f"{one.name:{width}}  {text}{gone}")
    return lines


def _shown(value: Any, secrets: Sequence[str]) -> str:
    from thaw.deploy.intrinsics import Unknown

    if isinstance(value, Mapping):
        text = ", ".join(f"{name}: {_shown(inner, secrets)}" for name, inner in value.items()) or "none"
    elif isinstance(value, list):
        text = ", ".join(_shown(inner, secrets) for inner in value) or "none"
    elif value is None or value == "":
        text = "none"
    else:
        text = str(value) if isinstance(value, str | Unknown) else str(value).lower()
    for secret in secrets:
        text = text.replace(secret, "****")
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _summary(done: Deployed) -> str:
    from thaw.deploy.change import Action

    words = {Action.CREATE: "created", Action.UPDATE: "changed", Action.DELETE: "deleted", Action.KEEP: "unchanged"}
    return "Deployed: " + ", ".join(
        f"{done.counts[action]} {word}" for action, word in words.items() if done.counts[action]
    )


def _show_outputs(console: Console, outputs: Mapping[str, Any]) -> None:
    from rich.markup import escape

    width = max(map(len, outputs), default=0)
    for name, value in outputs.items():
        console.print(f"  {name:{width}}  {escape(str(value))}", soft_wrap=True)


def _show_errors(console: Console, logs: Any, names: Sequence[str], since_ms: int) -> None:
    """What functions said of themselves while they were being deployed: the reason of most failures."""
    from botocore.exceptions import BotoCoreError, ClientError
    from rich.markup import escape

    from thaw.deploy.asking import reason_of

    for name in names:
        try:
            for text in _errors(logs, name, since_ms):
                console.print(f"  [red]{escape(name)}[/] {escape(text)}", soft_wrap=True)
        except (ClientError, BotoCoreError) as error:
            told = f"The log of {name} cannot be read here ({reason_of(error)}): try `thaw logs {name}` on the server."
            console.print(f"  [dim]{escape(told)}[/]", soft_wrap=True)


def _errors(logs: Any, name: str, since_ms: int) -> list[str]:
    """The first lines of the last errors in a function's log."""
    from thaw.deploy.asking import found

    group = f"/aws/lambda/{name}"
    said = found(logs.filter_log_events, logGroupName=group, startTime=since_ms, filterPattern="ERROR") or {}
    return [re.split(r"[\r\n]", event["message"].strip())[0] for event in said.get("events", ())[-_MOST_ERRORS:]]
