"""`thaw publish NAME`: publishes a version, waits for its snapshot, and shows what was found in the process."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thaw.cli.screen import progress, wide_console

if TYPE_CHECKING:
    from rich.console import Console

# What begins a finding's line in a function's log (thaw.publish.findings.LINE).
FINDING = re.compile(r"SNAPSHOT_FINDING (TS\d{3}) (.*)")
POLL_S = 0.1
LIMIT_S = 1000.0


def publish(
    name: Annotated[str, typer.Argument(help="The function")],
    endpoint_url: Annotated[
        str | None, typer.Option(help="The server's address", show_default="AWS_ENDPOINT_URL, http://127.0.0.1:3001")
    ] = None,
) -> None:
    """Publish a version, wait until it can be called, and say what its clones will share."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, ParamValidationError

    from thaw.cli.deploy import api_client
    from thaw.errors import ConfigurationError

    client = api_client(endpoint_url)
    try:
        _publish(client, name)
    except ClientError as error:
        reason = error.response["Error"].get("Message", str(error))
        raise ConfigurationError(f"{name} cannot be published: {reason}") from None
    except ParamValidationError:
        raise ConfigurationError(
            f"{name!r} is no name of a function: `aws lambda list-functions` lists them."
        ) from None
    except (ConnectionError, HTTPClientError):
        raise ConfigurationError(
            f"{name} cannot be published, because no server answers at {client.meta.endpoint_url}: start `thaw serve`, "
            "or name another one with --endpoint-url."
        ) from None


def _publish(client: Any, name: str) -> None:
    from rich.markup import escape

    console = wide_console()
    began = time.monotonic()
    with progress(console) as step:
        _settle(client, FunctionName=name)  # it may have been made or changed a moment ago
        step(f"publishing {name}: Init runs, then the process is frozen")
        answer = client.publish_version(FunctionName=name)
        version = answer["Version"]
        found = _settle(client, FunctionName=name, Qualifier=version)
    if found["State"] == "Failed":
        console.print(f"[red]{name}:{version} failed[/]: {escape(found.get('StateReason', 'no reason was given'))}")
        console.print(f"`thaw logs {name}` has what the function wrote.")
        raise typer.Exit(1)
    after = f"after {time.monotonic() - began:.1f} s"
    if answer.get("State") != "Pending" and found["SnapStart"]["OptimizationStatus"] == "On":
        after = "since earlier: code and configuration have not changed"
    console.print(f"[bold]{name}:{version}[/] is {found['State']} {after}.")
    _show(console, client, found)


def _settle(client: Any, **which: str) -> dict[str, Any]:
    """Waits until a function or version is no longer Pending, and no update is under way; its configuration then."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found: dict[str, Any] = client.get_function_configuration(**which)
        busy = found["State"] == "Pending" or found.get("LastUpdateStatus") == "InProgress"
        if not busy or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


def _show(console: Console, client: Any, found: dict[str, Any]) -> None:
    from thaw.cli.inspection import show_findings

    if found["SnapStart"]["OptimizationStatus"] != "On":
        console.print("SnapStart is off, so there is no snapshot and nothing to find in one.")
        return
    show_findings(console, findings(client, found))
    console.print(
        f"\n`thaw snapshot inspect {found['FunctionName']}:{found['Version']}` shows what the snapshot holds."
    )


def findings(client: Any, configuration: dict[str, Any]) -> list[tuple[str, str]]:
    """(code, sentence) of the findings in the log of the version's newest snapshot."""
    from thaw.cli.deploy import api_client

    logs = api_client(client.meta.endpoint_url, "logs")
    group = configuration["LoggingConfig"]["LogGroup"]
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, filterPattern='"SNAPSHOT_FINDING"')
    events = [one for page in pages for one in page["events"] if _is_of(one, configuration["Version"])]
    if not events:
        return []
    newest = max(events, key=lambda one: one["timestamp"])["logStreamName"]
    matches = (FINDING.search(_text(one["message"])) for one in events if one["logStreamName"] == newest)
    return [(match[1], match[2]) for match in matches if match is not None]


def _text(message: str) -> str:
    """Where the function's log has the format JSON, the line is a member of a document."""
    return str(json.loads(message)["message"]) if message.startswith("{") else message


def _is_of(event: dict[str, Any], version: str) -> bool:
    """Streams are named YYYY/MM/DD/[version]digits."""
    return f"/[{version}]" in event["logStreamName"]
