"""AWS's query protocol: forms in, XML out. Older clients of CloudWatch speak it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

MOST_MEMBERS = 1000


def decode(form: str, shape: Any) -> dict[str, Any]:
    """The members of a structure (a botocore shape) from `Name.member.1.Value=…`. Raises ValueError."""
    found = _structure(dict(parse_qsl(form, keep_blank_values=True)), shape, "")
    return found or {}


def _structure(fields: Mapping[str, str], shape: Any, prefix: str) -> dict[str, Any] | None:
    members = {}
    for name, member in shape.members.items():
        value = _value(fields, member, f"{prefix}{name}")
        if value is not None:
            members[name] = value
    return members or None


def _value(fields: Mapping[str, str], shape: Any, name: str) -> Any:
    if shape.type_name == "structure":
        return _structure(fields, shape, f"{name}.")
    if shape.type_name == "list":
        return _list(fields, shape, name)
    text = fields.get(name)
    if text is None or shape.type_name in ("string", "timestamp"):
        return text
    if shape.type_name == "boolean":
        return text == "true"
    return float(text) if shape.type_name in ("double", "float") else int(text)


def _list(fields: Mapping[str, str], shape: Any, name: str) -> list[Any] | None:
    values: list[Any] = []
    while len(values) < MOST_MEMBERS:
        value = _value(fields, shape.member, f"{name}.member.{len(values) + 1}")
        if value is None:
            break
        values.append(value)
    return values or None


def encode(operation: str, namespace: str, document: Mapping[str, Any], request_id: str) -> bytes:
    """The XML of an answer."""
    return (
        f'<{operation}Response xmlns="{namespace}"><{operation}Result>{_members(document)}</{operation}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>"
    ).encode()


def encode_error(namespace: str, code: str, message: str, request_id: str) -> bytes:
    """The XML of an error."""
    return (
        f'<ErrorResponse xmlns="{namespace}"><Error><Type>Sender</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    ).encode()


def _members(document: Mapping[str, Any]) -> str:
    return "".join(f"<{name}>{_content(value)}</{name}>" for name, value in document.items())


def _content(value: Any) -> str:
    if isinstance(value, Mapping):
        return _members(value)
    if isinstance(value, list | tuple):
        return "".join(f"<member>{_content(one)}</member>" for one in value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return escape(str(value).lower() if isinstance(value, bool) else str(value))
