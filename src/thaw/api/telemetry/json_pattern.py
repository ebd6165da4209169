"""Filter patterns of CloudWatch Logs for JSON: `{ ($.level = "ERROR" || $.n >= 5) && $.user.name = a* }`.

Of a selector ($.a.b, $['a b'], $.list[0]) and a value, `=` and `!=` compare texts (`*` stands for anything) or numbers,
`<`, `<=`, `>`, `>=` numbers; `IS NULL`, `IS TRUE`, `IS FALSE` and `NOT EXISTS` look at the member. What is absent
matches none but the last. From the user guide, "Filter pattern syntax for metric filters, subscription filters, filter
log events, and Live Tail".
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import msgspec

from thaw.errors import ServiceError

Condition = Callable[[Any], bool]
_TOKEN = re.compile(
    r"""\s*(?:(?P<selector>\$(?:\.[^\s.\[\]=!<>()&|{}]+|\[\d+\]|\['[^']*'\])+)
    |(?P<text>"(?:[^"\\]|\\.)*")|(?P<sign>\|\||&&|!=|<=|>=|[=<>()])|(?P<word>[^\s=!<>()&|"]+))""",
    re.VERBOSE,
)
_STEP = re.compile(r"\.([^\s.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")
_NUMBERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_ABSENT = object()
_DEEPEST = 64


def compile_json_pattern(pattern: str) -> Callable[[str], bool]:
    """Whether a message is an object that matches. Raises ServiceError InvalidParameterException."""
    text = pattern.strip()
    if not (text.startswith("{") and text.endswith("}")):
        raise _invalid()
    parser = _Parser(_tokens(text[1:-1]))
    condition = parser.either()
    if parser.left:
        raise _invalid()
    return lambda message: _matches(condition, message)


def _matches(condition: Condition, message: str) -> bool:
    if not message.lstrip().startswith("{"):
        return False
    try:
        return condition(msgspec.json.decode(message))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False


def _tokens(text: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise _invalid()
        found.append((match.lastgroup, match[match.lastgroup]))
        place = match.end()
    return found


class _Parser:
    """Recursive descent: || binds less than &&, and brackets most."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.left = tokens
        self._depth = 0

    def either(self) -> Condition:
        parts = [self._both()]
        while self._take("sign", "||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda value: any(part(value) for part in parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("sign", "&&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)

    def _one(self) -> Condition:
        if self._take("sign", "("):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise _invalid()
            inner = self.either()
            self._depth -= 1
            if not self._take("sign", ")"):
                raise _invalid()
            return inner
        kind, selector = self._next()
        if kind != "selector":
            raise _invalid()
        return _test(_steps(selector), *self._comparison())

    def _comparison(self) -> tuple[str, str, str]:
        """What is done with the member: a sign or a word, and the kind and text of what follows it."""
        kind, sign = self._next()
        if kind not in ("sign", "word") or (kind == "sign" and sign in "()&&||"):
            raise _invalid()
        return sign.upper(), *self._next()

    def _take(self, kind: str, text: str) -> bool:
        if self.left[:1] != [(kind, text)]:
            return False
        self.left = self.left[1:]
        return True

    def _next(self) -> tuple[str, str]:
        if not self.left:
            raise _invalid()
        (token, *self.left) = self.left
        return token


def _steps(selector: str) -> list[str | int]:
    return [int(match[2]) if match[2] else match[1] or match[3] for match in _STEP.finditer(selector)]


def _member(value: Any, steps: list[str | int]) -> Any:
    for step in steps:
        if isinstance(value, dict) if isinstance(step, str) else isinstance(value, list):
            try:
                value = value[step]
            except LookupError:
                return _ABSENT
        else:
            return _ABSENT
    return value


def _test(steps: list[str | int], sign: str, kind: str, text: str) -> Condition:
    if (sign, text.upper()) == ("NOT", "EXISTS"):
        return lambda value: _member(value, steps) is _ABSENT
    if sign == "IS" and text.upper() in ("NULL", "TRUE", "FALSE"):
        wanted = {"NULL": None, "TRUE": True, "FALSE": False}[text.upper()]
        return lambda value: _member(value, steps) is wanted
    if kind not in ("text", "word"):
        raise _invalid()
    if sign in _NUMBERS:
        return _compared(steps, _NUMBERS[sign], _number(text))
    if sign == "=":
        equal = _equal(kind, text)
        return lambda value: equal(_member(value, steps))
    if sign == "!=":
        equal = _equal(kind, text)
        return lambda value: (member := _member(value, steps)) is not _ABSENT and not equal(member)
    raise _invalid()


def _compared(steps: list[str | int], compare: Callable[[Any, Any], bool], bound: float | None) -> Condition:
    if bound is None:
        raise _invalid()
    return lambda value: _is_number(member := _member(value, steps)) and compare(member, bound)


def _equal(kind: str, text: str) -> Condition:
    """A text in quotes is a text; a word that is a number equals numbers."""
    plain = re.sub(r"\\(.)", r"\1", text[1:-1]) if kind == "text" else text
    wildcard = re.compile(".*".join(re.escape(part) for part in plain.split("*")), re.DOTALL)
    number = _number(text) if kind == "word" else None

    def equal(member: Any) -> bool:
        if isinstance(member, str):
            return wildcard.fullmatch(member) is not None
        return number is not None and _is_number(member) and member == number

    return equal


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _invalid() -> ServiceError:
    return ServiceError("InvalidParameterException", "Invalid filter pattern")
