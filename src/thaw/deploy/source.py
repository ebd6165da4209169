"""Reading template files: YAML with CloudFormation's short tags (`!Ref`), or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thaw.errors import TemplateError


def read_document(path: Path, *, template: bool = True) -> dict[str, Any]:
    """The template (or another document) as a dictionary; short tags are written out ({"Ref": …}, {"Fn::Sub": …}).

    Raises TemplateError where there is no such file, or none that can be read.
    """
    text = _text(path)
    document = _json(path, text) if text.lstrip().startswith("{") else _yaml(path, text)
    if not isinstance(document, dict):
        raise TemplateError(f"{path} is no template: its outermost level must be a mapping with Resources.")
    if not template:
        return document
    resources = document.get("Resources")
    if not isinstance(resources, dict) or not resources:
        raise TemplateError(f"{path} has no Resources: name at least one, such as an AWS::Serverless::Function.")
    for logical_id, resource in resources.items():
        _check_resource(path, logical_id, resource)
    return document


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TemplateError(f"There is no template {path}: name one, such as template.yaml.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TemplateError(f"The template {path} cannot be read ({reason}): name another file.") from None


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise TemplateError(f"{path} is no valid JSON at {place} ({error.msg}): correct it there.") from None


def _yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        raise TemplateError(f"{path} is no valid YAML{place} ({error.problem}): correct it there.") from None
    except (yaml.YAMLError, ValueError) as error:
        raise TemplateError(f"{path} is no valid YAML ({str(error).splitlines()[0]}): correct it.") from None


def _loader() -> Any:
    """PyYAML's safe loader with short tags, as the AWS tools read them; dates stay text ("2010-09-09")."""
    import yaml
    from samtranslator.yaml_helper import intrinsics_multi_constructor

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """A class of its own: constructors are kept per class, and nobody else's loader is to change."""

    def mapping(loader: Any, node: Any) -> Any:
        """A key that comes twice would silently lose its first value."""
        keys = [
            loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"
        ]
        twice = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} is there twice", node.start_mark)
        return loader.construct_mapping(node, deep=True)

    def tagged(loader: Any, prefix: str, node: Any) -> Any:
        if isinstance(node, yaml.SequenceNode):
            short = node.tag[1:]
            name = short if short in ("Ref", "Condition") else f"Fn::{short}"
            return {name: loader.construct_sequence(node, deep=True)}
        return intrinsics_multi_constructor(loader, prefix, node)

    timestamp = "tag:yaml.org,2002:timestamp"
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != timestamp]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    Loader.add_multi_constructor("!", tagged)
    return Loader


def _check_resource(path: Path, logical_id: object, resource: object) -> None:
    if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
        raise TemplateError(
            f"The resource {logical_id} of {path} has no Type: give it one, such as AWS::Lambda::Function."
        )
    if not isinstance(resource.get("Properties", {}), dict):
        raise TemplateError(f"The Properties of {logical_id} in {path} are no mapping: check the indentation there.")
