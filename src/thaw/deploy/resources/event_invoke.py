"""AWS::Lambda::EventInvokeConfig."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.deploy.asking import found, split_function
from thaw.deploy.change import Action, Change, Context, Undo, claim, differences
from thaw.deploy.intrinsics import Attributes
from thaw.deploy.ownership import LATEST, Owned
from thaw.deploy.resources.owning import own
from thaw.deploy.shapes import fitted
from thaw.deploy.template import Declared

_NAMES = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")


def plan(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Compares the settings of asynchronous calls with the server's."""
    client = context.client
    name, qualifier = split_function(str(properties.get("FunctionName", "")))
    qualifier = str(properties.get("Qualifier") or qualifier or LATEST)
    where = {"FunctionName": name, "Qualifier": qualifier}
    owned = Owned("event-invoke", qualifier, one.logical_id, one.retained)
    claims = claim(name, owned.tag)
    title = f"asynchronous calls of {name}:{qualifier}"
    attributes = {"": f"{name}:{qualifier}"}
    after = _without_empty(fitted(client, "PutFunctionEventInvokeConfig", _given(properties), one.place))
    there = found(client.get_function_event_invoke_config, **where)
    before = _without_empty(_given(there or {}))
    changes = differences(before, after)
    if there is not None and not changes:
        return Change(one.logical_id, title, Action.KEEP, attributes, claims=claims)

    def work(undo: Undo) -> Attributes:
        client.put_function_event_invoke_config(**where, **after)
        if there is None:
            undo.push(f"deleting the settings of {title}", lambda: client.delete_function_event_invoke_config(**where))
        else:
            told = f"putting back the settings of {title}"
            undo.push(told, lambda: client.put_function_event_invoke_config(**where, **before))
        own(context, name, owned, undo)
        return attributes

    action = Action.CREATE if there is None else Action.UPDATE
    return Change(one.logical_id, title, action, attributes, changes, work, claims)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in _NAMES if values.get(name) is not None}


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """Destinations that lead nowhere are as good as none, and the server shows them as {}."""
    kept = dict(values)
    if (destinations := kept.get("DestinationConfig")) is not None:
        kept["DestinationConfig"] = {name: value for name, value in destinations.items() if value}
        if not kept["DestinationConfig"]:
            del kept["DestinationConfig"]
    return kept
