"""The errors that AWS answers to a request that does not fit the model, word for word.

This is the slow road: it runs only after the compiled types refused a request, to say why. It reports every failed
constraint at once, as AWS does, in the order of the model's members.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

from thaw.api.protocol.message_types import INTEGER_RANGES
from thaw.api.protocol.model import OPEN_ENUMS, ServiceModel, Shape
from thaw.api.protocol.pattern import python_pattern
from thaw.errors import ServiceError

_JSON_TYPES = {"string": str, "blob": str, "boolean": bool, "structure": dict, "map": dict, "list": list}
_JAVA_NAMES = {
    "string": "String",
    "blob": "Blob",
    "boolean": "Boolean",
    "integer": "Integer",
    "long": "Long",
    "double": "Double",
    "float": "Float",
    "timestamp": "Timestamp",
    "structure": "structure",
    "map": "map",
    "list": "list",
}


def wrong_type(found: Any, kind: str) -> ServiceError:
    """The SerializationException for a JSON value of another type than the shape's."""
    if isinstance(found, dict):
        return ServiceError("SerializationException", "Start of structure or map found where not expected.")
    if isinstance(found, list):
        return ServiceError("SerializationException", "Start of list found where not expected.")
    if isinstance(found, bool):
        token = "TRUE_VALUE" if found else "FALSE_VALUE"
    else:
        token = "STRING_VALUE" if isinstance(found, str) else "NUMBER_VALUE"
    return ServiceError("SerializationException", f"{token} cannot be converted to {_JAVA_NAMES[kind]}")


class Constraints:
    """Checks untyped values (as JSON decodes them) against the shapes of a model."""

    def __init__(self, model: ServiceModel) -> None:
        self._model = model

    def check(self, shape_name: str, value: Mapping[str, Any]) -> None:
        """Raises the SerializationException or the ValidationException that AWS would answer, if any."""
        failures = list(self._structure(self._model.shapes[shape_name], value, ""))
        if failures:
            plural = "error" if len(failures) == 1 else "errors"
            text = f"{len(failures)} validation {plural} detected: " + "; ".join(failures)
            raise ServiceError("ValidationException", text)

    def _failures(self, name: str, value: Any, path: str) -> Iterator[str]:
        shape = self._model.shapes[name]
        self._check_type(shape, value)
        if shape["type"] == "structure":
            yield from self._structure(shape, value, path + ".")
            return
        for constraint in () if name in OPEN_ENUMS else _broken(shape, value):
            yield f"{_shown(shape, value)} at '{path}' failed to satisfy constraint: {constraint}"
        if shape["type"] == "list":
            yield from self._list(shape, value, path)
        elif shape["type"] == "map":
            yield from self._map(shape, value, path)

    def _structure(self, shape: Shape, value: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for member, reference in shape["members"].items():
            found = value.get(reference.get("locationName", member) if "location" not in reference else member)
            path = prefix + member[0].lower() + member[1:]
            if found is not None:
                yield from self._failures(reference["shape"], found, path)
            elif member in shape.get("required", ()):
                yield f"Value null at '{path}' failed to satisfy constraint: Member must not be null"

    def _list(self, shape: Shape, values: list[Any], path: str) -> Iterator[str]:
        name = shape["member"]["shape"]
        if self._model.is_a(name, "structure"):
            for position, value in enumerate(values, 1):
                yield from self._failures(name, {} if value is None else value, f"{path}.{position}.member")
        elif any(self._breaks(name, value) for value in values):
            yield (
                f"{_shown(shape, values)} at '{path}' failed to satisfy constraint: "
                f"Member must satisfy constraint: [{self._all_of(name)}]"
            )

    def _map(self, shape: Shape, values: Mapping[str, Any], path: str) -> Iterator[str]:
        for part, found in (("keys", list(values)), ("value", list(values.values()))):
            name = shape["key" if part == "keys" else "value"]["shape"]
            if any(self._breaks(name, value) for value in found):
                yield (
                    f"{_shown(shape, values)} at '{path}' failed to satisfy constraint: "
                    f"Map {part} must satisfy constraint: [{self._all_of(name)}]"
                )

    def _breaks(self, name: str, value: Any) -> bool:
        return value is None or any(self._failures(name, value, ""))

    def _all_of(self, name: str) -> str:
        return ", ".join([*(text for text, _ in _constraints(self._model.shapes[name])), "Member must not be null"])

    def _check_type(self, shape: Shape, value: Any) -> None:
        kind = shape["type"]
        if kind in INTEGER_RANGES:
            low, high = INTEGER_RANGES[kind]
            good = type(value) is int and low <= value <= high
        elif kind in ("double", "float", "timestamp"):
            good = type(value) in (int, float)
        else:
            good = isinstance(value, _JSON_TYPES[kind])
        if not good:
            raise wrong_type(value, kind)
        if kind == "blob":
            _check_base64(value)


def _check_base64(text: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ServiceError("SerializationException", f"A blob member is not valid Base64: {error}.") from error


def _constraints(shape: Shape) -> Iterator[tuple[str, Any]]:
    """Each constraint of a shape, as AWS words it, with a test for it; upper limits come first, as AWS lists them."""
    kind = shape["type"]
    if "enum" in shape:
        yield f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]", lambda v: v in shape["enum"]
        return
    sized = kind in ("string", "list", "map", "blob")
    what = "have length" if sized else "have value"
    size = (lambda v: _length(kind, v)) if sized else (lambda v: v)
    if "max" in shape:
        yield f"Member must {what} less than or equal to {shape['max']}", lambda v: size(v) <= shape["max"]
    if "min" in shape:
        yield f"Member must {what} greater than or equal to {shape['min']}", lambda v: size(v) >= shape["min"]
    if "pattern" in shape:
        expression = re.compile(python_pattern(shape["pattern"]))
        yield f"Member must satisfy regular expression pattern: {shape['pattern']}", expression.search


def _length(kind: str, value: Any) -> int:
    return len(base64.b64decode(value)) if kind == "blob" else len(value)


def _broken(shape: Shape, value: Any) -> Iterator[str]:
    return (text for text, holds in _constraints(shape) if not holds(value))


def _shown(shape: Shape, value: Any) -> str:
    """ "Value 'x'", or "Value" alone where the model calls the shape sensitive."""
    return "Value" if shape.get("sensitive") else f"Value '{_java_text(value)}'"


def _java_text(value: Any) -> str:
    """A value as Java's toString() writes it: [a, b] and {key=value}."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_java_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_java_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
