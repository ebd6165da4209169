"""SAM templates into CloudFormation, by AWS's own translator, without a network.

The translator takes code from S3 only. Paths beside the template are therefore replaced first, by S3 places that nobody
has and whose keys are the packages' digests (`thaw.deploy.code.BUCKET`): so a new package is a new version, as on AWS.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thaw.deploy.code import BUCKET, Code, code_at, local_path
from thaw.deploy.intrinsics import Elsewhere, Resolver
from thaw.deploy.source import read_document
from thaw.errors import TemplateError

TRANSFORM = "AWS::Serverless-2016-10-31"
# Which property of which type names code, and whether the translator reads it (it wants s3:// then).
_CODE = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Lambda::Function": "Code",
    "AWS::Lambda::LayerVersion": "Content",
}
_DEFINITIONS = {"AWS::Serverless::Api", "AWS::Serverless::HttpApi"}


def uses_sam(document: Mapping[str, Any]) -> bool:
    """Whether the template asks for SAM's transform. Raises TemplateError where it asks for another one."""
    asked = document.get("Transform") or []
    names = asked if isinstance(asked, list) else [asked]
    other = next((name for name in names if name != TRANSFORM), None)
    if other is not None:
        raise TemplateError(f"The transform {other} runs on AWS only: apply it there, and deploy what it makes.")
    return TRANSFORM in names


def collect_code(document: dict[str, Any], path: Path, resolver: Resolver) -> dict[str, Code]:
    """Replaces every path of code in the document; returns the codes by digest. `path` is the template's."""
    codes: dict[str, Code] = {}
    assets = _assets(path)
    for properties, name, where, is_sam in _places(document):
        place = _path_of(properties[name], where, resolver, assets)
        if place is None:
            continue
        code = code_at((path.parent / place).resolve(), where)
        codes[code.digest] = code
        properties[name] = f"s3://{BUCKET}/{code.digest}" if is_sam else {"S3Bucket": BUCKET, "S3Key": code.digest}
    return codes


def _path_of(value: Any, where: str, resolver: Resolver, assets: Mapping[str, str]) -> str | None:
    """The path that a property names, itself, through a parameter, or by the key of an asset; None for all else."""
    if isinstance(value, dict) and isinstance(value.get("S3Key"), str):
        return assets.get(value["S3Key"])
    is_function = isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))
    return local_path(resolver.resolve(value, where) if is_function else value)


def _assets(path: Path) -> dict[str, str]:
    """What the CDK puts beside Stack.template.json: folders by the key in S3 to which it would upload them."""
    file = path.with_name(path.name.removesuffix(".template.json") + ".assets.json")
    if file == path or not file.is_file():
        return {}
    files: Mapping[str, Any] = read_document(file, template=False).get("files") or {}
    return {
        destination["objectKey"]: one["source"]["path"]
        for one in files.values()
        for destination in one["destinations"].values()
        if "path" in one["source"]
    }


def _places(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str, bool]]:
    """(properties, name, place for people, whether SAM's) of every property that may name code."""
    for logical_id, resource in document["Resources"].items():
        kind = resource["Type"]
        name = _CODE.get(kind)
        properties = resource.get("Properties", {})
        if name is not None and properties.get(name) is not None:
            yield properties, name, f"{logical_id}.{name}", kind.startswith("AWS::Serverless::")
    sections: Any = document.get("Globals") or {}
    for section, name in (("Function", "CodeUri"), ("LayerVersion", "ContentUri")):
        if name in (sections.get(section) or {}):
            yield sections[section], name, f"Globals.{section}.{name}", True


def translated(document: dict[str, Any], folder: Path, values: Mapping[str, Any], region: str) -> dict[str, Any]:
    """The CloudFormation that SAM makes of the template. Raises TemplateError with the translator's first reason."""
    import boto3
    from samtranslator.metrics.metrics import DummyMetricsPublisher, Metrics
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator
    from samtranslator.utils.py27hash_fix import to_py27_compatible_template, undo_mark_unicode_str_in_template

    working = copy.deepcopy(document)
    _read_definitions(working, folder)
    given = {name: value for name, value in values.items() if not isinstance(value, Elsewhere)}
    parameters = {name: ",".join(value) if isinstance(value, list) else value for name, value in given.items()}
    # The hashes in logical ids are those of SAM on AWS only with its own preparation.
    to_py27_compatible_template(working, parameters)
    metrics = Metrics("ServerlessTransform", DummyMetricsPublisher())
    translator = Translator(None, Parser(), boto_session=boto3.Session(region_name=region), metrics=metrics)
    try:
        made = translator.translate(working, parameters, get_managed_policy_map=_AnyPolicy)
    except InvalidDocumentException as error:
        raise TemplateError(f"SAM refuses the template: {_first_reason(error)}") from None
    finally:
        metrics.publish()  # to nobody; it warns otherwise
    found: dict[str, Any] = undo_mark_unicode_str_in_template(made)
    return found


def types() -> list[str]:
    """The types of resources that SAM's translator knows."""
    from samtranslator.model import ResourceTypeResolver, sam_resources

    return sorted(ResourceTypeResolver(sam_resources).resource_types)


class _AnyPolicy(dict[str, str]):
    """Managed policies by name: roles do not exist here, so every name is as good as another."""

    def __bool__(self) -> bool:
        return True

    def get(self, name: str, default: Any = None) -> str:
        """The ARN that a managed policy of this name has on AWS."""
        return f"arn:aws:iam::aws:policy/{name}"


def _read_definitions(document: dict[str, Any], folder: Path) -> None:
    """An API's definition in a file beside the template becomes part of it."""
    for logical_id, resource in document["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] in _DEFINITIONS and (path := local_path(properties.get("DefinitionUri"))) is not None:
            where = folder / path
            if not where.is_file():
                raise TemplateError(f"{logical_id}.DefinitionUri names {where}, which is not there: correct the path.")
            properties["DefinitionBody"] = read_definition(where)
            del properties["DefinitionUri"]


def read_definition(path: Path) -> dict[str, Any]:
    """An OpenAPI document in YAML or JSON."""
    return read_document(path, template=False)


def _first_reason(error: Any) -> str:
    reasons = [cause.message.strip() for cause in error.causes] or [error.message]
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0].rstrip('.')}{more}."
