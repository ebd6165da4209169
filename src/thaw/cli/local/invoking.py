"""One call of one function, on a server that lives as long."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from thaw.cli.local.workspace import Options, Target, Workspace, chosen, load_template, temporary_server
from thaw.errors import DeployFailed


def invoke_once(
    options: Options, logical_id: str | None, event: bytes, tell: Callable[[str], None]
) -> tuple[bytes, bool]:
    """The function's answer, and whether it failed; its log has been told by then.

    Raises TemplateError before anything is started, DeployFailed where the function cannot be run.
    """
    template = load_template(options)
    wanted = chosen(template, logical_id)

    def step(text: str) -> None:
        tell(f"• {text}")

    with temporary_server(step) as (client, folder):
        workspace = Workspace(client, options, step)
        workspace.bring(template, only=wanted)
        target = workspace.targets[wanted]
        step(
            f"calling {wanted}"
            + (f", version {target.qualifier}: a clone of the frozen one" if options.snapstart else "")
        )
        payload, fault = _call(client, target, event)
        _tell_log(folder, tell)
    if fault is not None:
        tell(f"thaw: {wanted} failed ({fault}): its answer says why, and its log above where.")
    return payload, fault is not None


def _call(client: Any, target: Target, event: bytes) -> tuple[bytes, str | None]:
    from botocore.exceptions import ClientError

    try:
        answer = client.invoke(FunctionName=target.name, Qualifier=target.qualifier, Payload=event)
    except ClientError as error:
        found = error.response["Error"]
        raise DeployFailed(f"{target.logical_id} could not be called: {found['Code']}: {found['Message']}") from None
    return answer["Payload"].read(), answer.get("FunctionError")


def _tell_log(folder: Path, tell: Callable[[str], None]) -> None:
    from thaw.cli.logs import LogReader

    for _, _, text in LogReader(folder / "logs").new_events():
        tell(text)
