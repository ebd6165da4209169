"""What is known of a value while a module's import is followed."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field

from thaw.lint.rules import RULES


@dataclass(frozen=True, slots=True)
class Source:
    """Something that must not be kept: the rule, what was called, and the line of that call."""

    code: str
    call: str
    line: int
    at: Spot


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the import itself reaches it: the expression at module or class level. This is what a finding names."""

    path: str
    line: int
    column: int
    last_line: int


@dataclass(slots=True, eq=False)
class Value:
    """`kind` is the full name of what made it; `instance` its class where that is of the project; `function` what it is
    where it can be called; `means` the full name of the foreign function that it is another name of."""

    sources: set[Source] = field(default_factory=set)
    kind: str = ""
    instance: ast.ClassDef | None = None
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None = None
    means: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)

    def everything(self) -> set[Source]:
        """Its own sources and those of its attributes, however deep."""
        found: set[Source] = set()
        seen: set[int] = set()
        left = [self]
        while left:
            one = left.pop()
            if id(one) not in seen:
                seen.add(id(one))
                found |= one.sources
                left += one.attributes.values()
        return found

    def end(self) -> None:
        """It was closed, stopped or waited for: what rules say about resources no longer holds."""
        self.sources = {source for source in self.sources if not RULES[source.code].resource}
        for attribute in self.attributes.values():
            if attribute is not self:
                attribute.sources = {one for one in attribute.sources if not RULES[one.code].resource}


def union(values: Iterable[Value]) -> Value:
    """A value that holds all of them."""
    return Value({source for value in values for source in value.everything()})
