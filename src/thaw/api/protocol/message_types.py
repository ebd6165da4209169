"""msgspec types made from the service model's shapes: one C pass decodes and validates a request."""

from __future__ import annotations

import keyword
from types import GenericAlias
from typing import Annotated, Any, Literal

import botocore
import msgspec

from thaw.api.protocol.model import OPEN_ENUMS, ServiceModel, Shape
from thaw.api.protocol.pattern import python_pattern

INTEGER_RANGES = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}

# Members that come from the URL or a header must not be settable from the body; no JSON client sends this prefix by
# accident, and one that does only sets what the real location overwrites.
_OUTSIDE_BODY = "outside-the-body:"


def attribute_name(member: str) -> str:
    """The Python name of a member: "KMSKeyArn" becomes "kms_key_arn"."""
    name: str = botocore.xform_name(member)
    return f"{name}_" if keyword.iskeyword(name) else name


class MessageTypes:
    """Builds (and remembers) the type of each shape; a struct's attributes are the members in snake case.

    A member that is absent or null is None. Limits of strings count code points, those of lists and maps items.
    """

    def __init__(self, model: ServiceModel) -> None:
        self._model = model
        self._built: dict[str, Any] = {}

    def of(self, name: str) -> Any:
        """The type of the shape `name`."""
        if name not in self._built:
            self._built[name] = self._build(name, self._model.shapes[name])
        return self._built[name]

    def _build(self, name: str, shape: Shape) -> Any:
        kind = shape["type"]
        if kind == "structure":
            return self._structure(name, shape)
        if kind == "list":
            items = GenericAlias(list, self.of(shape["member"]["shape"]))
            return _limited(items, min_length="min", max_length="max", shape=shape)
        if kind == "map":
            entry = GenericAlias(dict, (self.of(shape["key"]["shape"]), self.of(shape["value"]["shape"])))
            return _limited(entry, min_length="min", max_length="max", shape=shape)
        return str if name in OPEN_ENUMS else _scalar(kind, shape)

    def _structure(self, name: str, shape: Shape) -> Any:
        fields: list[tuple[str, Any, Any] | tuple[str, Any]] = []
        wire_names: dict[str, str] = {}
        required = shape.get("required", ())
        for member, reference in shape["members"].items():
            outside = "location" in reference or shape.get("payload") == member
            attribute = attribute_name(member)
            wire_names[attribute] = _OUTSIDE_BODY + member if outside else reference.get("locationName", member)
            kind = self.of(reference["shape"])
            if member in required and not outside:
                fields.append((attribute, kind))
            else:
                fields.append((attribute, kind | None, None))
        return msgspec.defstruct(name, fields, rename=wire_names, kw_only=True)


def _scalar(kind: str, shape: Shape) -> Any:
    if kind == "string":
        if "enum" in shape:
            return Literal[tuple(shape["enum"])]
        pattern = python_pattern(shape["pattern"]) if "pattern" in shape else None
        return _limited(str, min_length="min", max_length="max", shape=shape, pattern=pattern)
    if kind == "blob":
        return _limited(bytes, min_length="min", max_length="max", shape=shape)
    if kind in INTEGER_RANGES:
        low, high = INTEGER_RANGES[kind]
        return Annotated[int, msgspec.Meta(ge=int(shape.get("min", low)), le=int(shape.get("max", high)))]
    if kind in ("double", "float"):
        return _limited(float, ge="min", le="max", shape=shape)
    return {"boolean": bool, "timestamp": float}[kind]


def _limited(kind: Any, *, shape: Shape, pattern: str | None = None, **limits: str) -> Any:
    """`kind` with those of the `limits` (msgspec's name to the model's name) that the shape sets."""
    found: dict[str, Any] = {ours: shape[theirs] for ours, theirs in limits.items() if theirs in shape}
    if pattern is not None:
        found["pattern"] = pattern
    return Annotated[kind, msgspec.Meta(**found)] if found else kind
