"""Filter patterns of CloudWatch Logs: for plain text terms, "quoted terms", ?any -not; for JSON see `json_pattern`."""

from __future__ import annotations

import re
from collections.abc import Callable

from thaw.api.telemetry.json_pattern import compile_json_pattern
from thaw.errors import ServiceError

_TERM = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a message matches. Raises InvalidParameterException for patterns of columns or regular expressions."""
    text = pattern.strip()
    if text.startswith("{"):
        return compile_json_pattern(text)
    if text[:1] in "[%" and text:
        raise ServiceError(
            "InvalidParameterException",
            "Filter patterns for columns and for regular expressions are not supported by this server: "
            'use terms, "quoted terms", ?any and -not, or { $.member = value }.',
        )
    needed: list[str] = []
    anyone: list[str] = []
    excluded: list[str] = []
    place = 0
    while place < len(text):
        match = _TERM.match(text, place)
        if match is None:
            raise ServiceError("InvalidParameterException", "Invalid filter pattern")
        term = re.sub(r"\\(.)", r"\1", match[2]) if match[2] is not None else match[3]
        {"": needed, "?": anyone, "-": excluded}[match[1]].append(term)
        place = match.end()
    return lambda message: (
        all(term in message for term in needed)
        and (not anyone or any(term in message for term in anyone))
        and not any(term in message for term in excluded)
    )
