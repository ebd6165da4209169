"""Properties of CloudFormation as arguments of the Lambda API, checked against the service model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.deploy.intrinsics import Unknown
from thaw.errors import TemplateError


def fitted(client: Any, operation: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` as the operation takes them. Raises TemplateError for a name or value that it does not.

    Parameters of templates are texts, so "512" is taken for a number, and 12 for a text.
    """
    shape = client.meta.service_model.operation_model(operation).input_shape
    found: dict[str, Any] = _fit(shape, dict(values), where)
    return found


def _fit(shape: Any, value: Any, where: str) -> Any:
    if isinstance(value, Unknown):
        return value
    if shape.type_name == "structure":
        return _structure(shape, value, where)
    if shape.type_name == "list":
        items = value if isinstance(value, list) else [value]
        return [_fit(shape.member, item, f"{where}[{number}]") for number, item in enumerate(items)]
    if shape.type_name == "map":
        mapping = _mapping(value, where)
        return {str(name): _fit(shape.value, inner, f"{where}.{name}") for name, inner in mapping.items()}
    return _scalar(shape.type_name, value, where)


def _structure(shape: Any, value: Any, where: str) -> dict[str, Any]:
    mapping = _mapping(value, where)
    unknown = next((name for name in mapping if name not in shape.members), None)
    if unknown is not None:
        raise TemplateError(f"{where}.{unknown} is no property that Lambda has: take it out, or correct its name.")
    return {name: _fit(shape.members[name], inner, f"{where}.{name}") for name, inner in mapping.items()}


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TemplateError(f"{where} is {value!r}, but must be a mapping: check the indentation there.")
    return value


def _scalar(kind: str, value: Any, where: str) -> Any:
    if kind == "blob":
        return value
    if isinstance(value, (list, Mapping)) or value is None:
        raise TemplateError(f"{where} is {value!r}, but must be one value: check it there.")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "boolean":
        if text not in ("true", "false"):
            raise TemplateError(f"{where} is {value!r}, but must be true or false.")
        return text == "true"
    try:
        return {"integer": int, "long": int, "double": float, "float": float}.get(kind, str)(text)
    except ValueError:
        raise TemplateError(f"{where} is {value!r}, but must be a number.") from None
