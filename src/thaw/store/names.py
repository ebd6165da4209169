"""Which names stores accept: those that are safe as a file name, as an object key and in a log line."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9_$][A-Za-z0-9_$.-]{0,239}")


def check_name(name: str) -> str:
    """`name` itself. Raises ValueError for one that no store may hold (a path, a control character, too long)."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name something in a store: 1 to 240 of A-Z a-z 0-9 _ $ . - are allowed")
    return name
