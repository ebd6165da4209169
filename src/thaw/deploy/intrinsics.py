"""CloudFormation's intrinsic functions, resolved against parameters, mappings, conditions and known resources.

No maintained library does this without a whole emulator or linter around it; aws-sam-translator resolves references to
parameters only. The functions are those of CloudFormation's reference, "Intrinsic function reference".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thaw.errors import TemplateError

_VARIABLE = re.compile(r"\$\{(!?)\s*([A-Za-z0-9_.:]+)\s*\}")
NO_VALUE = object()
"""What `AWS::NoValue` stands for: the property is as if it were not there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that exists only after deploying; `what` names it for people."""

    what: str

    def __str__(self) -> str:
        return f"({self.what})"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A parameter whose value AWS Systems Manager has; templates of the CDK declare one and never use it."""

    parameter: str


Attributes = Mapping[str, Any]
"""Attributes of one resource by name; "" is what Ref gives."""


def references(value: Any) -> Iterator[str]:
    """Every name that Ref, Fn::GetAtt and Fn::Sub inside `value` mention, parameters and resources alike."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name == "Ref" and len(value) == 1:
                yield str(inner)
            elif name == "Fn::GetAtt" and len(value) == 1:
                yield str(inner[0] if isinstance(inner, list) and inner else inner).partition(".")[0]
            elif name == "Fn::Sub" and len(value) == 1:
                yield from _mentioned(inner)
            else:
                yield from references(inner)


def _mentioned(inner: Any) -> Iterator[str]:
    text, given = (inner[0], inner[1]) if isinstance(inner, list) and len(inner) == 2 else (inner, {})
    if isinstance(given, dict):
        yield from references(list(given.values()))
    for literal, name in _VARIABLE.findall(str(text)):
        if not literal and name not in given:
            yield name.partition(".")[0]


class Resolver:
    """Resolves values of one template. `attributes` may grow while resources become known."""

    def __init__(
        self,
        document: Mapping[str, Any],
        values: Mapping[str, Any],
        attributes: Mapping[str, Attributes],
    ) -> None:
        """`values` are parameters and pseudo parameters (`AWS::Region`)."""
        self._mappings: Mapping[str, Any] = document.get("Mappings") or {}
        self._conditions: Mapping[str, Any] = document.get("Conditions") or {}
        self._values = values
        self._attributes = attributes
        self._asking: list[str] = []
        self._functions: dict[str, Callable[[Any, str], Any]] = {
            "Ref": self._ref,
            "Condition": self._condition_of,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Split": self._split,
            "Fn::Select": self._select,
            "Fn::FindInMap": self._find_in_map,
            "Fn::Base64": self._base64,
            "Fn::If": self._if,
            "Fn::Equals": self._equals,
            "Fn::And": self._and,
            "Fn::Or": self._or,
            "Fn::Not": self._not,
            "Fn::ToJsonString": self._to_json,
            "Fn::Length": self._length,
        }

    def resolve(self, value: Any, where: str) -> Any:
        """The value with every function in it carried out; `where` names its place in error sentences.

        What exists only after deploying makes the whole value around it `Unknown`. Raises TemplateError.
        """
        if isinstance(value, list):
            items = [self.resolve(item, where) for item in value]
            return [item for item in items if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, inner),) = value.items()
            if name in self._functions and not (name == "Condition" and not isinstance(inner, str)):
                return self._functions[name](inner, where)
            if isinstance(name, str) and name.startswith("Fn::"):
                raise TemplateError(f"{where} uses {name}, which is not supported here: write the value out.")
        resolved = {name: self.resolve(inner, f"{where}.{name}") for name, inner in value.items()}
        return {name: inner for name, inner in resolved.items() if inner is not NO_VALUE}

    def holds(self, name: str, where: str) -> bool:
        """Whether a condition of the template holds."""
        if name not in self._conditions:
            raise TemplateError(f"{where} names the condition {name}, which the template does not have: add it.")
        if name in self._asking:
            circle = " -> ".join([*self._asking[self._asking.index(name) :], name])
            raise TemplateError(f"The conditions {circle} depend on each other in a circle: break it.")
        self._asking.append(name)
        try:
            return bool(self.resolve(self._conditions[name], f"Conditions.{name}"))
        finally:
            self._asking.pop()

    # --- references --------------------------------------------------------------------------------------------------

    def _ref(self, name: Any, where: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._values:
            return self._given(self._values[name], where)
        if name in self._attributes:
            return self._attributes[name][""]
        raise TemplateError(f"{where} refers to {name}, which is no parameter and no resource of the template: add it.")

    def _given(self, value: Any, where: str) -> Any:
        if isinstance(value, Elsewhere):
            raise TemplateError(
                f"{where} uses the parameter {value.parameter}, whose value is in AWS Systems Manager, which is not "
                f"here: give it with --parameter-overrides {value.parameter}=..."
            )
        return value

    def _get_att(self, argument: Any, where: str) -> Any:
        path = ".".join(map(str, argument)) if isinstance(argument, list) else str(argument)
        name, _, attribute = path.partition(".")
        if name not in self._attributes:
            raise TemplateError(f"{where} asks for {path}, but the template has no resource {name}: add it.")
        found = self._attributes[name]
        if attribute not in found or not attribute:
            known = ", ".join(sorted(key for key in found if key)) or "none"
            raise TemplateError(f"{where} asks for {path}, but the attributes of {name} are: {known}.")
        return found[attribute]

    def _sub(self, argument: Any, where: str) -> Any:
        pair = isinstance(argument, list) and len(argument) == 2 and isinstance(argument[1], dict)
        text, given = (argument[0], argument[1]) if pair else (argument, {})
        if not isinstance(text, str):
            raise TemplateError(f"{where} has an Fn::Sub without a text: give it one, or a text and a mapping.")
        own = {name: self.resolve(inner, where) for name, inner in given.items()}
        unknown: list[Unknown] = []

        def put(match: re.Match[str]) -> str:
            literal, name = match[1], match[2]
            if literal:
                return f"${{{name}}}"
            if name in own:
                value = own[name]
            else:
                value = self._get_att(name, where) if "." in name else self._ref(name, where)
            if isinstance(value, Unknown):
                unknown.append(value)
            return _text(value)

        done = _VARIABLE.sub(put, text)
        return unknown[0] if unknown else done

    # --- texts and lists ---------------------------------------------------------------------------------------------

    def _join(self, argument: Any, where: str) -> Any:
        separator, items = self._arguments("Fn::Join", argument, where, 2)
        if not isinstance(items, list):
            return items if isinstance(items, Unknown) else self._wrong("Fn::Join", where)
        unknown = next((item for item in items if isinstance(item, Unknown)), None)
        return unknown or _text(separator).join(_text(item) for item in items)

    def _split(self, argument: Any, where: str) -> Any:
        separator, text = self._arguments("Fn::Split", argument, where, 2)
        return text if isinstance(text, Unknown) else _text(text).split(_text(separator))

    def _select(self, argument: Any, where: str) -> Any:
        index, items = self._arguments("Fn::Select", argument, where, 2)
        if isinstance(items, Unknown):
            return items
        try:
            return items[int(index)]
        except (IndexError, ValueError, TypeError, KeyError):
            raise TemplateError(f"{where} selects item {index!r} of {items!r}, which is not there.") from None

    def _find_in_map(self, argument: Any, where: str) -> Any:
        if isinstance(argument, list) and len(argument) == 4 and isinstance(argument[3], dict):
            default, argument = argument[3].get("DefaultValue"), argument[:3]
        else:
            default = None
        name, first, second = (_text(item) for item in self._arguments("Fn::FindInMap", argument, where, 3))
        try:
            return self._mappings[name][first][second]
        except (KeyError, TypeError):
            if default is not None:
                return self.resolve(default, where)
            raise TemplateError(
                f"{where} looks up {name}.{first}.{second}, which Mappings do not have: add it."
            ) from None

    def _base64(self, argument: Any, where: str) -> Any:
        value = self.resolve(argument, where)
        return value if isinstance(value, Unknown) else base64.b64encode(_text(value).encode()).decode()

    def _to_json(self, argument: Any, where: str) -> Any:
        import json

        return json.dumps(self.resolve(argument, where), separators=(",", ":"), default=str)

    def _length(self, argument: Any, where: str) -> Any:
        value = self.resolve(argument, where)
        return len(value) if isinstance(value, list) else self._wrong("Fn::Length", where)

    # --- conditions --------------------------------------------------------------------------------------------------

    def _condition_of(self, name: Any, where: str) -> bool:
        return self.holds(str(name), where)

    def _if(self, argument: Any, where: str) -> Any:
        if not isinstance(argument, list) or len(argument) != 3:
            self._wrong("Fn::If", where)
        name, yes, no = argument
        return self.resolve(yes if self.holds(str(name), where) else no, where)

    def _equals(self, argument: Any, where: str) -> bool:
        first, second = self._arguments("Fn::Equals", argument, where, 2)
        return _text(first) == _text(second)

    def _and(self, argument: Any, where: str) -> bool:
        return all(self.resolve(argument, where))

    def _or(self, argument: Any, where: str) -> bool:
        return any(self.resolve(argument, where))

    def _not(self, argument: Any, where: str) -> bool:
        (value,) = self._arguments("Fn::Not", argument, where, 1)
        return not value

    def _arguments(self, function: str, argument: Any, where: str, count: int) -> list[Any]:
        if not isinstance(argument, list) or len(argument) != count:
            self._wrong(function, where)
        return [self.resolve(item, where) for item in argument]

    def _wrong(self, function: str, where: str) -> Any:
        raise TemplateError(f"{where} uses {function} in a form that it does not have: see CloudFormation's reference.")


def _text(value: Any) -> str:
    """A value inside a text, as CloudFormation writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
