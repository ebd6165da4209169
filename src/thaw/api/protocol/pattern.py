"""Java's regular expressions, which the service model uses, as Python's.

Three differences matter: Java's `matches()` wants the whole value, `\\d` and `\\w` are ASCII there, and Python knows no
`\\p{…}` classes.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

_PROPERTY = re.compile(r"\\p\{([A-Z][a-z]?)\}")


@cache
def _category_ranges(category: str) -> str:
    """The members of a Unicode general category, as the inside of a character class."""
    ranges: list[str] = []
    start = None
    for point in range(sys.maxunicode + 2):
        inside = point <= sys.maxunicode and unicodedata.category(chr(point)).startswith(category)
        if inside and start is None:
            start = point
        elif not inside and start is not None:
            ranges.append(f"\\U{start:08x}-\\U{point - 1:08x}")
            start = None
    return "".join(ranges)


# The separators, spelled out: scanning Unicode costs a tenth of a second, and a test keeps this list honest.
_SEPARATORS = " \\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"


def python_pattern(pattern: str) -> str:
    """Returns a Python pattern that finds exactly the values that Java's `matches()` accepts."""
    if not _PROPERTY.search(pattern):
        return f"(?a:\\A(?:{pattern})\\Z)"
    # Python's \w is letters, numbers and the underscore together; only where the class holds all three may it stand in.
    body = pattern.replace(r"\p{L}\p{Z}\p{N}_", r"\w\p{Z}").replace(r"\p{Z}", _SEPARATORS)
    body = _PROPERTY.sub(lambda match: _category_ranges(match[1]), body)
    return f"\\A(?:{body})\\Z"
