"""AWS::Lambda::Url."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.deploy.asking import found, split_function
from thaw.deploy.change import Action, Change, Context, Difference, Undo, claim, differences
from thaw.deploy.intrinsics import Attributes, Unknown
from thaw.deploy.ownership import LATEST, Owned
from thaw.deploy.resources.owning import own
from thaw.deploy.shapes import fitted
from thaw.deploy.template import Declared


def plan(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Compares the URL with the server's."""
    name, qualifier = split_function(str(properties.get("TargetFunctionArn", "")))
    qualifier = properties.get("Qualifier") or qualifier
    where = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})
    after = _wanted(context, one, properties)
    title = f"URL of {name}" + (f":{qualifier}" if qualifier else "")
    owned = Owned("url", qualifier or LATEST, one.logical_id, one.retained)
    claims = claim(name, owned.tag)
    arn = context.place.arn("lambda", "function:" + ":".join(where.values()))
    there = found(context.client.get_function_url_config, **where)
    if there is None:
        shown = tuple(Difference(key, None, value) for key, value in after.items() if value)
        attributes = {"": arn, "FunctionArn": arn, "FunctionUrl": Unknown("known after deploying")}

        def make(undo: Undo) -> Attributes:
            return _create(context, owned, where, after, undo)

        return Change(one.logical_id, title, Action.CREATE, attributes, shown, make, claims)
    before = _present(there)
    attributes = {"": arn, "FunctionArn": arn, "FunctionUrl": there["FunctionUrl"]}
    changes = differences(before, after)
    if not changes:
        return Change(one.logical_id, title, Action.KEEP, attributes, claims=claims)

    def work(undo: Undo) -> Attributes:
        client = context.client
        undo.push(f"putting back the {title}", lambda: client.update_function_url_config(**where, **before))
        client.update_function_url_config(**where, **after)
        own(context, name, owned, undo)
        return attributes

    return Change(one.logical_id, title, Action.UPDATE, attributes, changes, work, claims)


def _wanted(context: Context, one: Declared, properties: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: properties[name] for name in ("AuthType", "Cors", "InvokeMode") if name in properties}
    fit = fitted(context.client, "CreateFunctionUrlConfig", given, one.place)
    return {"AuthType": "AWS_IAM", "InvokeMode": "BUFFERED", "Cors": {}, **fit}


def _present(there: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "AuthType": there["AuthType"],
        "InvokeMode": there.get("InvokeMode", "BUFFERED"),
        "Cors": there.get("Cors") or {},
    }


def _create(
    context: Context, owned: Owned, where: Mapping[str, str], after: Mapping[str, Any], undo: Undo
) -> Attributes:
    client = context.client
    made = client.create_function_url_config(**where, **after)
    told = f"deleting the URL of {':'.join(where.values())}"
    undo.push(told, lambda: client.delete_function_url_config(**where))
    own(context, where["FunctionName"], owned, undo)
    return {"": made["FunctionArn"], "FunctionArn": made["FunctionArn"], "FunctionUrl": made["FunctionUrl"]}
