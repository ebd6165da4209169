"""Method and path to operation: a tree of path segments, compiled from the model's URI templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from thaw.api.protocol.model import ServiceModel


@dataclass(slots=True)
class _Branch:
    literal: dict[str, _Branch] = field(default_factory=dict)
    variable: tuple[str, _Branch] | None = None
    # Operations that end here: method, query parameters that must be present, name. Most demanding first.
    ends: list[tuple[str, dict[str, str], str]] = field(default_factory=list)


class Routes:
    """Finds the operation of a request."""

    def __init__(self, model: ServiceModel) -> None:
        self._root = _Branch()
        for name, operation in model.operations.items():
            self._add(operation["http"]["method"], operation["http"]["requestUri"], name)

    def find(self, method: str, raw_path: str, query: Mapping[str, list[str]]) -> tuple[str, dict[str, str]] | None:
        """The operation's name and the values in its path (percent-decoded), or None.

        `raw_path` is still percent-encoded: an ARN in one segment may hold slashes. A slash at the end is ignored, for
        clients of the older templates that had one.
        """
        segments = raw_path.removeprefix("/").removesuffix("/").split("/")
        for branch, values in _walk(self._root, segments, 0):
            for allowed, demanded, name in branch.ends:
                if allowed == method and all(query.get(key) == [value] for key, value in demanded.items()):
                    return name, values
        return None

    def _add(self, method: str, template: str, name: str) -> None:
        path, _, query = template.partition("?")
        branch = self._root
        for segment in path.removeprefix("/").removesuffix("/").split("/"):
            if segment.startswith("{"):
                if branch.variable is None:
                    branch.variable = (segment.strip("{}+"), _Branch())
                branch = branch.variable[1]
            else:
                branch = branch.literal.setdefault(segment, _Branch())
        branch.ends.append((method, dict(parse_qsl(query, keep_blank_values=True)), name))
        branch.ends.sort(key=lambda end: -len(end[1]))


def _walk(branch: _Branch, segments: list[str], depth: int) -> Iterator[tuple[_Branch, dict[str, str]]]:
    if depth == len(segments):
        yield branch, {}
        return
    literal = branch.literal.get(segments[depth])
    if literal is not None:
        yield from _walk(literal, segments, depth + 1)
    if branch.variable is not None:
        name, following = branch.variable
        for end, values in _walk(following, segments, depth + 1):
            yield end, {name: unquote(segments[depth]), **values}
