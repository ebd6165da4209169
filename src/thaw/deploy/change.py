"""One resource's change: what is shown of it before, and what carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from thaw.deploy.asking import reason_of
from thaw.deploy.code import Code
from thaw.deploy.intrinsics import Attributes, Unknown
from thaw.deploy.placeholders import Place
from thaw.errors import ThawError


class Action(StrEnum):
    """What happens to a resource; the value is the sign in front of it."""

    CREATE = "+"
    UPDATE = "~"
    DELETE = "-"
    KEEP = " "


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting before and after; None where there is none."""

    name: str
    before: Any
    after: Any


@dataclass
class Undo:
    """What takes back the changes of one run, the last one first."""

    steps: list[tuple[str, Callable[[], object]]] = field(default_factory=list)

    def push(self, told: str, step: Callable[[], object]) -> None:
        """Remembers how to take back what is about to happen; `told` says it to people."""
        self.steps.append((told, step))

    def run(self, tell: Callable[[str], None]) -> list[str]:
        """Takes everything back; returns a sentence for each step that could not be."""
        from botocore.exceptions import BotoCoreError, ClientError

        failed = []
        while self.steps:
            told, step = self.steps.pop()
            tell(told)
            try:
                step()
            except (ClientError, BotoCoreError, ThawError) as error:
                failed.append(f"{told} did not succeed ({reason_of(error)})")
        return failed


Work = Callable[[Undo], Attributes]


@dataclass(frozen=True, slots=True)
class Change:
    """`work` carries it out and returns the attributes that the resource then has; None where nothing is to be done."""

    logical_id: str
    title: str
    action: Action
    attributes: Attributes
    differences: tuple[Difference, ...] = ()
    work: Work | None = None
    claims: str | None = None
    """What of a function it is, as `claim` writes it: what a stack owned and nothing claims any more is removed."""


@dataclass(frozen=True)
class Context:
    """What every kind of resource needs: a client, where the stack lives, and the code beside the template."""

    client: Any
    place: Place
    stack: str
    codes: Mapping[str, Code] = field(default_factory=dict)


def claim(function: str, thing: str) -> str:
    """A name for something of a function: `thing` is the tag that owns it, or permission:<qualifier>:<statement id>."""
    return f"{function} {thing}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> tuple[Difference, ...]:
    """What differs between two mappings, nested mappings member by member; sorted by name."""
    found: list[Difference] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(Difference(prefix + name, old, new))
    return tuple(found)


def is_known(value: Any) -> bool:
    """Whether nothing in the value waits for the deployment."""
    if isinstance(value, Mapping):
        return all(map(is_known, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_known, value))
    return not isinstance(value, Unknown)
