"""AWS::Lambda::Permission: one statement of a function's resource policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from thaw.deploy.asking import found, split_function
from thaw.deploy.change import Action, Change, Context, Difference, Undo, claim, differences
from thaw.deploy.intrinsics import Attributes
from thaw.deploy.ownership import statement_id
from thaw.deploy.shapes import fitted
from thaw.deploy.template import Declared

# Which condition key of a statement holds which argument of AddPermission.
_CONDITIONS = {
    "aws:sourceaccount": "SourceAccount",
    "aws:sourcearn": "SourceArn",
    "aws:principalorgid": "PrincipalOrgID",
    "lambda:functionurlauthtype": "FunctionUrlAuthType",
    "lambda:eventsourcetoken": "EventSourceToken",
    "lambda:invokedviafunctionurl": "InvokedViaFunctionUrl",
}


def plan(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Compares the statement with the server's."""
    name, qualifier = split_function(str(properties.get("FunctionName", "")))
    where = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})
    sid = statement_id(context.stack, one.logical_id)
    given = {key: value for key, value in properties.items() if key != "FunctionName"}
    after = fitted(context.client, "AddPermission", given, one.place)
    title = f"permission of {after.get('Principal', '?')} on {':'.join(where.values())}"
    claims = claim(name, claimed(qualifier, sid))
    before = statements(context.client, where).get(sid)
    if before is not None and not (changes := differences(before, _as_shown(after))):
        return Change(one.logical_id, title, Action.KEEP, {"": sid}, claims=claims)
    if before is None:
        changes = tuple(Difference(key, None, value) for key, value in sorted(after.items()) if key != "Principal")

    def work(undo: Undo) -> Attributes:
        if before is not None:
            remove(context, where, sid, before, undo)
        context.client.add_permission(**where, StatementId=sid, **after)
        told = f"removing the {title}"
        undo.push(told, lambda: context.client.remove_permission(**where, StatementId=sid))
        return {"": sid}

    action = Action.CREATE if before is None else Action.UPDATE
    return Change(one.logical_id, title, action, {"": sid}, changes, work, claims)


def claimed(qualifier: str | None, sid: str) -> str:
    """How a statement is claimed."""
    return f"permission:{qualifier or ''}:{sid}"


def remove(context: Context, where: Mapping[str, str], sid: str, before: Mapping[str, Any], undo: Undo) -> None:
    """Takes a statement out of a policy; it can be put back."""
    client = context.client
    client.remove_permission(**where, StatementId=sid)
    told = f"putting back the permission {sid} on {':'.join(where.values())}"
    undo.push(told, lambda: client.add_permission(**where, StatementId=sid, **before))


def statements(client: Any, where: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The statements of a policy by id, each as the arguments of AddPermission."""
    answer = found(client.get_policy, **where)
    if answer is None:
        return {}
    return {item["Sid"]: _arguments(item) for item in json.loads(answer["Policy"])["Statement"]}


def _arguments(statement: Mapping[str, Any]) -> dict[str, Any]:
    principal = statement["Principal"]
    text = principal if isinstance(principal, str) else next(iter(principal.values()))
    found: dict[str, Any] = {"Action": statement["Action"], "Principal": text}
    for conditions in (statement.get("Condition") or {}).values():
        for key, value in conditions.items():
            name = _CONDITIONS.get(key.lower(), key)
            found[name] = value == "true" if name == "InvokedViaFunctionUrl" else value
    return found


def _as_shown(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as a policy gives them back: an account is its root user there."""
    principal = str(arguments.get("Principal", ""))
    account = principal.isdigit() and len(principal) == 12
    return {**arguments, "Principal": f"arn:aws:iam::{principal}:root"} if account else dict(arguments)
