"""A template, ready to be planned: parameters filled in, SAM translated, conditions decided, resources in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from thaw.deploy import sam
from thaw.deploy.code import Code
from thaw.deploy.intrinsics import Attributes, Resolver, references
from thaw.deploy.parameters import parameter_values
from thaw.deploy.placeholders import Place
from thaw.deploy.source import read_document
from thaw.errors import TemplateError


@dataclass(frozen=True, slots=True)
class Declared:
    """One resource as the template has it, functions in its properties unresolved."""

    logical_id: str
    kind: str
    properties: Mapping[str, Any]
    retained: bool
    """Whether it outlives its place in the template (DeletionPolicy: Retain)."""

    @property
    def place(self) -> str:
        """For error sentences."""
        return self.logical_id


@dataclass(frozen=True)
class Template:
    """`resources` are in the order of their dependencies; `attributes` is filled while they become known."""

    path: Path
    stack: str
    place: Place
    document: Mapping[str, Any]
    resources: tuple[Declared, ...]
    codes: Mapping[str, Code]
    values: Mapping[str, Any]
    attributes: dict[str, Attributes] = field(default_factory=dict)

    def resolver(self, attributes: Mapping[str, Attributes]) -> Resolver:
        """Resolves values of this template against what is known of its resources."""
        return Resolver(self.document, self.values, attributes)

    def outputs(self, attributes: Mapping[str, Attributes]) -> dict[str, Any]:
        """The template's Outputs, those whose condition holds."""
        resolver = self.resolver(attributes)
        found: dict[str, Any] = {}
        for name, output in (self.document.get("Outputs") or {}).items():
            condition = output.get("Condition")
            if condition is None or resolver.holds(condition, f"Outputs.{name}"):
                found[name] = resolver.resolve(output.get("Value"), f"Outputs.{name}")
        return found


def load(path: Path, *, stack: str, place: Place, overrides: Mapping[str, str] | None = None) -> Template:
    """Reads a template and everything beside it. Raises TemplateError with one sentence on what is wrong."""
    document = read_document(path)
    values = parameter_values(document, overrides or {}) | _pseudo(stack, place)
    folder = path.parent
    codes = sam.collect_code(document, path, Resolver(document, values, {}))
    if sam.uses_sam(document):
        document = sam.translated(document, folder, values, place.region)
        _refuse_unknown_types(document)
    else:
        _refuse_sam_types(path, document)
    resources = _ordered(_declared(document, Resolver(document, values, {})))
    return Template(path, stack, place, document, resources, codes, values)


def _pseudo(stack: str, place: Place) -> dict[str, str]:
    """CloudFormation's pseudo parameters."""
    return {
        "AWS::Region": place.region,
        "AWS::AccountId": place.account_id,
        "AWS::Partition": "aws",
        "AWS::URLSuffix": "amazonaws.com",
        "AWS::StackName": stack,
        "AWS::StackId": place.arn("cloudformation", f"stack/{stack}/thaw"),
        "AWS::NotificationARNs": "",
    }


def _refuse_sam_types(path: Path, document: Mapping[str, Any]) -> None:
    for logical_id, resource in document["Resources"].items():
        if resource["Type"].startswith("AWS::Serverless::"):
            raise TemplateError(
                f"{logical_id} in {path} is an {resource['Type']}, but the template lacks SAM's transform: "
                f"add the line `Transform: {sam.TRANSFORM}`."
            )


def _refuse_unknown_types(document: Mapping[str, Any]) -> None:
    """SAM's translator leaves types as they are that it does not know."""
    for logical_id, resource in document["Resources"].items():
        if resource["Type"].startswith("AWS::Serverless::"):
            close = get_close_matches(resource["Type"], sam.types(), 1, 0)[0]
            raise TemplateError(f"{logical_id} is an {resource['Type']}, which SAM does not know: is it an {close}?")


def _declared(document: Mapping[str, Any], resolver: Resolver) -> dict[str, tuple[Declared, tuple[str, ...]]]:
    """The resources whose condition holds, each with what its DependsOn names."""
    found: dict[str, tuple[Declared, tuple[str, ...]]] = {}
    for logical_id, resource in document["Resources"].items():
        condition = resource.get("Condition")
        if condition is not None and not resolver.holds(condition, logical_id):
            continue
        after = resource.get("DependsOn") or ()
        declared = Declared(
            logical_id,
            resource["Type"],
            resource.get("Properties") or {},
            str(resource.get("DeletionPolicy", "")).startswith("Retain"),
        )
        found[logical_id] = declared, ((after,) if isinstance(after, str) else tuple(after))
    return found


def _ordered(declared: Mapping[str, tuple[Declared, tuple[str, ...]]]) -> tuple[Declared, ...]:
    """Each resource after those that it refers to. Raises TemplateError where they go in a circle."""
    done: dict[str, Declared] = {}
    path: list[str] = []

    def visit(logical_id: str) -> None:
        if logical_id in done:
            return
        if logical_id in path:
            circle = " -> ".join([*path[path.index(logical_id) :], logical_id])
            raise TemplateError(f"The resources {circle} refer to each other in a circle: take one reference out.")
        path.append(logical_id)
        one, after = declared[logical_id]
        for name in _needed(one, after):
            if name in declared:
                visit(name)
        path.pop()
        done[logical_id] = one

    for logical_id in declared:
        visit(logical_id)
    return tuple(done.values())


def _needed(one: Declared, after: tuple[str, ...]) -> Iterator[str]:
    yield from after
    for name in references(dict(one.properties)):
        if name != one.logical_id:
            yield name
