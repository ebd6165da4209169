"""The type of an error that a runtime reports about itself or its function."""

from __future__ import annotations

import re

from thaw.environment.runtime_api.http import Request

_KNOWN_FORM = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")


def error_type(request: Request, otherwise: str) -> str:
    """The header Lambda-Runtime-Function-Error-Type where it has Lambda's form, else Runtime.Unknown or
    Function.Unknown, or `otherwise` where it names neither."""
    return known_type(request.header(b"lambda-runtime-function-error-type"), otherwise)


def known_type(given: str, otherwise: str) -> str:
    """The same for a type that came by another way."""
    if _KNOWN_FORM.fullmatch(given):
        return given
    return "Runtime.Unknown" if given.startswith("Runtime.") else otherwise
