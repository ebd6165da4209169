"""AWS::Lambda::LayerVersion and AWS::Lambda::LayerVersionPermission.

A layer version is never changed: what differs is published as the next one. The newest version with the same content
and settings is taken where there is one, so that nothing is published twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from thaw.deploy.asking import found, pages
from thaw.deploy.change import Action, Change, Context, Difference, Undo
from thaw.deploy.code import BUCKET
from thaw.deploy.intrinsics import Attributes, Unknown
from thaw.deploy.ownership import statement_id
from thaw.deploy.shapes import fitted
from thaw.deploy.template import Declared
from thaw.errors import TemplateError

_SETTINGS = ("Description", "LicenseInfo", "CompatibleRuntimes", "CompatibleArchitectures")


def plan(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Whether the server has the same content and settings under this name."""
    name = str(properties.get("LayerName") or f"{context.stack}-{one.logical_id}")
    content, digest = _content(context, one, properties)
    given = {key: properties[key] for key in _SETTINGS if properties.get(key)}
    settings = fitted(context.client, "PublishLayerVersion", given, one.place)
    arn = None if digest is None else _same(context.client, name, digest, settings)
    if arn is not None:
        return Change(one.logical_id, f"layer {name}", Action.KEEP, {"": arn, "LayerVersionArn": arn})
    new = Unknown("known after deploying")
    size = f"{len(content['ZipFile']) / 1024:,.1f} KiB" if "ZipFile" in content else "/".join(content.values())
    shown = (Difference("Content", None, size), *(Difference(key, None, value) for key, value in settings.items()))

    def work(undo: Undo) -> Attributes:
        made = context.client.publish_layer_version(LayerName=name, Content=content, **settings)
        where = {"LayerName": name, "VersionNumber": made["Version"]}
        told = f"deleting version {made['Version']} of layer {name}"
        undo.push(told, lambda: context.client.delete_layer_version(**where))
        return {"": made["LayerVersionArn"], "LayerVersionArn": made["LayerVersionArn"]}

    attributes = {"": new, "LayerVersionArn": new}
    return Change(one.logical_id, f"version of layer {name}", Action.CREATE, attributes, shown, work)


def _content(context: Context, one: Declared, properties: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The argument Content, and the CodeSha256 where it is known before it is published."""
    content = properties.get("Content")
    if not isinstance(content, Mapping) or not content:
        raise TemplateError(f"{one.logical_id} has no content: add Content (ContentUri in SAM), a path to it.")
    if content.get("S3Bucket") != BUCKET:
        fit = fitted(context.client, "PublishLayerVersion", {"Content": dict(content)}, one.place)
        return fit["Content"], None
    package = context.codes[str(content["S3Key"])].package
    return {"ZipFile": package}, base64.b64encode(hashlib.sha256(package).digest()).decode()


def _same(client: Any, name: str, digest: str, settings: Mapping[str, Any]) -> str | None:
    """The ARN of the newest version with this content and these settings."""
    for item in pages(client, "list_layer_versions", "LayerVersions", LayerName=name):
        version = found(client.get_layer_version, LayerName=name, VersionNumber=item["Version"])
        if version is None or version["Content"]["CodeSha256"] != digest:
            continue
        if all((version.get(key) or None) == settings.get(key) for key in _SETTINGS):
            arn: str = version["LayerVersionArn"]
            return arn
    return None


def plan_permission(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Compares one statement of a layer version's policy with the server's."""
    arn = properties.get("LayerVersionArn")
    sid = statement_id(context.stack, one.logical_id)
    given = {key: properties[key] for key in ("Action", "Principal", "OrganizationId") if properties.get(key)}
    after = fitted(context.client, "AddLayerVersionPermission", given, one.place)
    title = f"permission of {after.get('Principal', '?')} on a layer"
    if isinstance(arn, str) and _has_statement(context.client, _where(arn), sid):
        return Change(one.logical_id, title, Action.KEEP, {"": sid})
    shown = tuple(Difference(key, None, value) for key, value in after.items())

    def work(undo: Undo) -> Attributes:
        where = _where(str(arn))
        context.client.add_layer_version_permission(**where, StatementId=sid, **after)
        undo.push(
            f"removing the {title}",
            lambda: context.client.remove_layer_version_permission(**where, StatementId=sid),
        )
        return {"": sid}

    return Change(one.logical_id, title, Action.CREATE, {"": sid}, shown, work)


def _where(arn: str) -> dict[str, Any]:
    name, _, number = arn.rpartition(":")
    if not number.isdigit():
        raise TemplateError(f"{arn} is no version of a layer: end it with the version's number.")
    return {"LayerName": name, "VersionNumber": int(number)}


def _has_statement(client: Any, where: Mapping[str, Any], sid: str) -> bool:
    answer = found(client.get_layer_version_policy, **where)
    return answer is not None and any(item["Sid"] == sid for item in json.loads(answer["Policy"])["Statement"])
