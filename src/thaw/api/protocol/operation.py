"""One operation: from the parts of an HTTP request to a validated struct of its input shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from thaw.api.protocol.constraints import Constraints, wrong_type
from thaw.api.protocol.message_types import MessageTypes, attribute_name
from thaw.api.protocol.model import ServiceModel, Shape
from thaw.errors import ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParts:
    """Where members come from. `path` values are percent-decoded, header names are lower case."""

    path: Mapping[str, str]
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Located:
    """A member outside the body."""

    member: str
    attribute: str
    location: str
    wire_name: str
    shape: Shape
    type: Any
    required: bool

    def text(self, parts: RequestParts) -> Any:
        """The member as text (a list of texts for a list), or None."""
        if self.location == "uri":
            return parts.path.get(self.wire_name)
        if self.location == "header":
            return parts.headers.get(self.wire_name)
        found = parts.query.get(self.wire_name)
        return found if found is None or self.shape["type"] == "list" else found[0]

    def value(self, parts: RequestParts) -> Any:
        """The member in its JSON type; raises SerializationException where the text is not of that type."""
        text = self.text(parts)
        if text is None or self.shape["type"] in ("string", "list"):
            return text
        try:
            return _FROM_TEXT[self.shape["type"]](text)
        except (ValueError, KeyError, OverflowError) as error:
            raise wrong_type(text, self.shape["type"]) from error


_FROM_TEXT: Mapping[str, Any] = {
    "integer": int,
    "long": int,
    "double": float,
    "boolean": lambda text: {"true": True, "false": False}[text.lower()],
    "timestamp": lambda text: datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp(),
}


class Operation:
    """Name, success status and input of one operation."""

    def __init__(self, name: str, model: ServiceModel, types: MessageTypes, constraints: Constraints) -> None:
        description = model.operations[name]
        self.name = name
        self.status = int(description["http"].get("responseCode", 200))
        self._input = description["input"]["shape"]
        self._constraints = constraints
        shape = model.shapes[self._input]
        self._payload = shape.get("payload")
        self._located = [
            _located(member, reference, member in shape.get("required", ()), model, types)
            for member, reference in shape["members"].items()
            if "location" in reference
        ]
        self._has_body = len(self._located) < len(shape["members"])
        self._streams = self._payload is not None and model.is_a(shape["members"][self._payload]["shape"], "blob")
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(types.of(self._input))

    def decode(self, parts: RequestParts) -> Any:
        """The input as a struct whose attributes are the members in snake case.

        Raises ServiceError SerializationException (not JSON, or a value of the wrong type) and ValidationException (a
        constraint of the model), with AWS's texts.
        """
        try:
            try:
                message = self._decoded(parts)
            except msgspec.ValidationError as refusal:
                raise self._explanation(parts, refusal) from refusal
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ServiceError("SerializationException", f"Could not parse request body into json: {error}") from error
        if self._streams:
            setattr(message, attribute_name(str(self._payload)), parts.body)
        return message

    def _document(self, body: bytes) -> bytes:
        return body if self._has_body and not self._streams and body.strip() else b"{}"

    def _decoded(self, parts: RequestParts) -> Any:
        message = self._decoder.decode(self._document(parts.body))
        for located in self._located:
            value = located.value(parts)
            if value is None and located.required:
                raise msgspec.ValidationError(f"{located.member} is missing")
            setattr(message, located.attribute, value if value is None else msgspec.convert(value, located.type))
        return message

    def _explanation(self, parts: RequestParts, refusal: msgspec.ValidationError) -> ServiceError:
        """Says in AWS's words why the compiled types refused a request."""
        document = msgspec.json.decode(self._document(parts.body))
        if not isinstance(document, dict):
            return wrong_type(document, "structure")
        outside = {located.member: located.value(parts) for located in self._located}
        self._constraints.check(self._input, {**document, **outside})
        # Reached only where the compiled types are stricter than the words; a refusal must never become an acceptance.
        return ServiceError("ValidationException", f"1 validation error detected: {refusal}")


def _located(member: str, reference: Shape, required: bool, model: ServiceModel, types: MessageTypes) -> _Located:
    location = reference["location"]
    wire_name = reference.get("locationName", member)
    return _Located(
        member=member,
        attribute=attribute_name(member),
        location=location,
        wire_name=wire_name.lower() if location == "header" else wire_name,
        shape=model.shapes[reference["shape"]],
        type=types.of(reference["shape"]),
        required=required,
    )
