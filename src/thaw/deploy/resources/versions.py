"""AWS::Lambda::Version: published once; a version is never changed, another logical id is another version.

SAM's AutoPublishAlias puts a hash of the code into that logical id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.deploy.asking import found, pages, settled, split_function
from thaw.deploy.change import Action, Change, Context, Difference, Undo, claim
from thaw.deploy.intrinsics import Attributes, Unknown
from thaw.deploy.ownership import Owned, owned_by
from thaw.deploy.resources import provisioned
from thaw.deploy.resources.owning import own
from thaw.deploy.template import Declared


def plan(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Whether the version is there already."""
    name, _ = split_function(str(properties.get("FunctionName", "")))
    there = found(context.client.get_function, FunctionName=name)
    number = None if there is None else _published(there.get("Tags") or {}, one.logical_id)
    if number is not None and found(context.client.get_function, FunctionName=name, Qualifier=number) is not None:
        return _kept(context, one, name, number, properties)
    new = Unknown("known after deploying")
    attributes = {"": new, "Version": new, "FunctionArn": new}
    shown = tuple(Difference(key, None, properties[key]) for key in ("Description", "CodeSha256") if key in properties)

    def work(undo: Undo) -> Attributes:
        return _publish(context, one, name, properties, undo)

    return Change(one.logical_id, f"version of {name}", Action.CREATE, attributes, shown, work)


def _kept(context: Context, one: Declared, name: str, number: str, properties: Mapping[str, Any]) -> Change:
    before = provisioned.present(context, name, number)
    after = provisioned.wanted(context, one, properties)
    changes = provisioned.difference(before, after)

    def work(undo: Undo) -> Attributes:
        provisioned.apply(context, name, number, before, after, undo)
        return _attributes(context, name, number)

    action = Action.UPDATE if changes else Action.KEEP
    title = f"version {number} of {name}"
    claims = claim(name, Owned("version", number, one.logical_id, one.retained).tag)
    attributes = _attributes(context, name, number)
    return Change(one.logical_id, title, action, attributes, changes, work if changes else None, claims)


def _published(tags: Mapping[str, str], logical_id: str) -> str | None:
    """The number of the version that the stack published under this logical id."""
    mine = (owned.name for owned in owned_by(tags) if owned.kind == "version" and owned.logical_id == logical_id)
    return next(mine, None)


def _publish(context: Context, one: Declared, name: str, properties: Mapping[str, Any], undo: Undo) -> Attributes:
    client = context.client
    given = {key: str(properties[key]) for key in ("Description", "CodeSha256") if key in properties}
    before = {item["Version"] for item in pages(client, "list_versions_by_function", "Versions", FunctionName=name)}
    number: str = client.publish_version(FunctionName=name, **given)["Version"]
    # An unchanged function keeps its version: that one is not ours to take back.
    if number not in before:
        told = f"deleting version {number} of {name}"
        undo.push(told, lambda: client.delete_function(FunctionName=name, Qualifier=number))
    settled(client, name, number)
    own(context, name, Owned("version", number, one.logical_id, one.retained), undo)
    provisioned.apply(context, name, number, None, provisioned.wanted(context, one, properties), undo)
    return _attributes(context, name, number)


def _attributes(context: Context, name: str, number: str) -> Attributes:
    arn = context.place.arn("lambda", f"function:{name}:{number}")
    return {"": arn, "Version": number, "FunctionArn": arn}
