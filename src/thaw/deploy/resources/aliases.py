"""AWS::Lambda::Alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.deploy.asking import found, split_function
from thaw.deploy.change import Action, Change, Context, Difference, Undo, claim, differences
from thaw.deploy.intrinsics import Attributes
from thaw.deploy.ownership import Owned
from thaw.deploy.resources import provisioned
from thaw.deploy.resources.owning import own
from thaw.deploy.template import Declared
from thaw.errors import TemplateError


def plan(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Compares the alias with the server's."""
    name, _ = split_function(str(properties.get("FunctionName", "")))
    alias = str(properties.get("Name", ""))
    if not name or not alias:
        raise TemplateError(f"{one.logical_id} needs a FunctionName and a Name: add what is missing.")
    after = _wanted(properties)
    title = f"alias {name}:{alias}"
    attributes = {"": context.place.arn("lambda", f"function:{name}:{alias}")}
    claims = claim(name, Owned("alias", alias, one.logical_id, one.retained).tag)
    there = found(context.client.get_alias, FunctionName=name, Name=alias)
    if there is None:
        shown = (Difference("FunctionVersion", None, after["FunctionVersion"]),)

        def make(undo: Undo) -> Attributes:
            return _create(context, one, name, alias, properties, undo)

        return Change(one.logical_id, title, Action.CREATE, attributes, shown, make, claims)
    before = _present(there)
    count = provisioned.present(context, name, alias)
    changes = differences(before, after)
    changes += provisioned.difference(count, provisioned.wanted(context, one, properties))
    if not changes:
        return Change(one.logical_id, title, Action.KEEP, attributes, claims=claims)

    def work(undo: Undo) -> Attributes:
        _update(context, name, alias, before, after, undo)
        own(context, name, Owned("alias", alias, one.logical_id, one.retained), undo)
        provisioned.apply(context, name, alias, count, provisioned.wanted(context, one, properties), undo)
        return attributes

    return Change(one.logical_id, title, Action.UPDATE, attributes, changes, work, claims)


def _wanted(properties: Mapping[str, Any]) -> dict[str, Any]:
    weights = (properties.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or ()
    version = properties.get("FunctionVersion", "$LATEST")
    return {
        "FunctionVersion": str(version) if isinstance(version, int | str) else version,
        "Description": str(properties.get("Description", "")),
        "Weights": {str(item["FunctionVersion"]): float(item["FunctionWeight"]) for item in weights},
    }


def _present(there: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "FunctionVersion": there["FunctionVersion"],
        "Description": there.get("Description", ""),
        "Weights": (there.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {},
    }


def _arguments(name: str, alias: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "FunctionName": name,
        "Name": alias,
        "FunctionVersion": values["FunctionVersion"],
        "Description": values["Description"],
        "RoutingConfig": {"AdditionalVersionWeights": values["Weights"]},
    }


def _create(
    context: Context, one: Declared, name: str, alias: str, properties: Mapping[str, Any], undo: Undo
) -> Attributes:
    client, values = context.client, _wanted(properties)
    arguments = _arguments(name, alias, values)
    if not values["Weights"]:
        del arguments["RoutingConfig"]
    client.create_alias(**arguments)
    undo.push(f"deleting alias {name}:{alias}", lambda: client.delete_alias(FunctionName=name, Name=alias))
    own(context, name, Owned("alias", alias, one.logical_id, one.retained), undo)
    provisioned.apply(context, name, alias, None, provisioned.wanted(context, one, properties), undo)
    return {"": context.place.arn("lambda", f"function:{name}:{alias}")}


def _update(
    context: Context, name: str, alias: str, before: Mapping[str, Any], after: Mapping[str, Any], undo: Undo
) -> None:
    client = context.client
    if before != after:
        old = _arguments(name, alias, before)
        undo.push(f"putting back alias {name}:{alias}", lambda: client.update_alias(**old))
        client.update_alias(**_arguments(name, alias, after))
