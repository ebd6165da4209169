"""What a stack owns, kept where every machine finds it: in the tags of its functions.

====================================  ===================================================
`thaw:stack`                          the stack's name
`thaw:logical-id`                     the function's logical id in the template
`thaw:code`                           where code that is not beside the template came from
`thaw:owns:<kind>:<name>`             logical id of a version, alias, url or event-invoke
                                      that the stack made; "/retain" behind it: it stays
====================================  ===================================================

Permissions need no tag: their statement id begins with the name of the stack. Layer versions have no tags;
they are found again by their content, and never deleted, because functions elsewhere may use them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PREFIX = "thaw:"
STACK = "thaw:stack"
LOGICAL_ID = "thaw:logical-id"
CODE = "thaw:code"
LATEST = "$LATEST"
_OWNS = "thaw:owns:"
# Tags have no "$", and aliases no "@".
_LATEST_TAG = "@latest"
_RETAIN = "/retain"
_LONGEST_STATEMENT_ID = 100


@dataclass(frozen=True, slots=True)
class Owned:
    """What a stack made of a function: `kind` is version, alias, url or event-invoke, `name` its qualifier."""

    kind: str
    name: str
    logical_id: str
    retained: bool

    @property
    def tag(self) -> str:
        """The key of the tag that says so."""
        return f"{_OWNS}{self.kind}:{_LATEST_TAG if self.name == LATEST else self.name}"

    @property
    def text(self) -> str:
        """The tag's value."""
        return self.logical_id + (_RETAIN if self.retained else "")


def owned_by(tags: Mapping[str, str]) -> Iterator[Owned]:
    """Everything that a function's tags name."""
    for key, value in tags.items():
        if key.startswith(_OWNS):
            kind, _, name = key.removeprefix(_OWNS).partition(":")
            name = LATEST if name == _LATEST_TAG else name
            yield Owned(kind, name, value.removesuffix(_RETAIN), value.endswith(_RETAIN))


def tags_of_users(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that are not this package's own."""
    return {key: value for key, value in tags.items() if not key.startswith(PREFIX)}


def statement_id(stack: str, logical_id: str) -> str:
    """The statement id of a permission of a stack."""
    return f"{statement_prefix(stack)}{logical_id}"[:_LONGEST_STATEMENT_ID]


def statement_prefix(stack: str) -> str:
    """What the statement ids of a stack's permissions begin with."""
    return f"thaw-{stack}-"


def function_name(stack: str, logical_id: str) -> str:
    """The name of a function that the template leaves unnamed; at most 64 characters."""
    import hashlib

    name = f"{stack}-{logical_id}"
    return name if len(name) <= 64 else f"{name[:55]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def stack_name(text: str) -> str:
    """A stack's name made of any text, such as that of a folder."""
    found = re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-")
    return found if found[:1].isalpha() else f"stack-{found}".strip("-")
