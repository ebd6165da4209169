"""Parameters of a template: defaults, overrides, and what they are checked against."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from thaw.deploy.intrinsics import Elsewhere
from thaw.errors import TemplateError

_LISTS = ("CommaDelimitedList", "List<")


def parameter_values(document: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """The value of each parameter: text, a list of texts for the list types, `Elsewhere` for what is in SSM.

    Raises TemplateError where one has no value, or a value that the template does not allow. The rules are those of
    CloudFormation's user guide, "Parameters".
    """
    declared: Mapping[str, Any] = document.get("Parameters") or {}
    unknown = next((name for name in overrides if name not in declared), None)
    if unknown is not None:
        known = ", ".join(declared) or "none"
        raise TemplateError(f"The template has no parameter {unknown}: it has {known}.")
    return {name: _value(name, parameter or {}, overrides) for name, parameter in declared.items()}


def _value(name: str, parameter: Mapping[str, Any], overrides: Mapping[str, str]) -> Any:
    given = overrides.get(name, parameter.get("Default"))
    if given is None:
        raise TemplateError(f"The parameter {name} has no value: give one with --parameter-overrides {name}=...")
    kind = str(parameter.get("Type", "String"))
    if kind.startswith("AWS::SSM::") and name not in overrides:
        return Elsewhere(name)
    text = ",".join(map(str, given)) if isinstance(given, list) else _text(given)
    values = [part.strip() for part in text.split(",")] if kind.startswith(_LISTS) else [text]
    for value in values:
        _check(name, value, kind, parameter)
    return values if kind.startswith(_LISTS) else text


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check(name: str, value: str, kind: str, parameter: Mapping[str, Any]) -> None:
    allowed = [_text(one) for one in parameter.get("AllowedValues") or ()]
    if allowed and value not in allowed:
        raise TemplateError(f"The parameter {name} is {value!r}, but must be one of {', '.join(allowed)}.")
    if (pattern := parameter.get("AllowedPattern")) is not None and not re.fullmatch(str(pattern), value):
        hint = parameter.get("ConstraintDescription") or f"must match {pattern}"
        raise TemplateError(f"The parameter {name} is {value!r}, but {hint}.")
    if kind in ("Number", "List<Number>"):
        _check_number(name, value, parameter)
    shortest, longest = int(parameter.get("MinLength", 0)), int(parameter.get("MaxLength", 2**31))
    if not shortest <= len(value) <= longest:
        raise TemplateError(f"The parameter {name} is {value!r}, but must have {shortest} to {longest} characters.")


def _check_number(name: str, value: str, parameter: Mapping[str, Any]) -> None:
    try:
        number = float(value)
    except ValueError:
        raise TemplateError(f"The parameter {name} is {value!r}, but must be a number.") from None
    least, most = float(parameter.get("MinValue", "-inf")), float(parameter.get("MaxValue", "inf"))
    if not least <= number <= most:
        raise TemplateError(f"The parameter {name} is {value}, but must be between {least:g} and {most:g}.")
