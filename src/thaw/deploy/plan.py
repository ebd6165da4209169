"""What a deployment would change: each resource compared with the server, and what the template has no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thaw.deploy.change import Action, Change, Context, Difference
from thaw.deploy.code import not_built
from thaw.deploy.intrinsics import Attributes, Resolver, Unknown, references
from thaw.deploy.placeholders import placeholder, sentence
from thaw.deploy.removal import removals
from thaw.deploy.resources.kinds import KINDS
from thaw.deploy.template import Declared, Template
from thaw.errors import TemplateError

# While one of these waits for another resource, the server cannot be asked about the resource.
_NAMING = ("FunctionName", "TargetFunctionArn", "Qualifier", "Name", "LayerName")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A resource that is not Thaw's; `sentence` says what that means."""

    logical_id: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`changes` in the order in which they are made; `removed` are made after all of them."""

    changes: tuple[Change, ...]
    removed: tuple[Change, ...]
    left_out: tuple[LeftOut, ...]
    attributes: Mapping[str, Attributes]
    notes: tuple[str, ...] = ()
    """Sentences on what may surprise."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be changed."""
        return not self.removed and all(change.action is Action.KEEP for change in self.changes)

    def count(self, action: Action) -> int:
        """How many resources it happens to."""
        return sum(change.action is action for change in (*self.changes, *self.removed))


def plan(context: Context, template: Template) -> Plan:
    """Reads the server and compares. Raises TemplateError where the template means nothing there."""
    attributes: dict[str, Attributes] = {}
    changes: list[Change] = []
    left_out: list[LeftOut] = []
    for one, seen in walk(context, template, attributes):
        if isinstance(seen, Change):
            changes.append(seen)
            attributes[one.logical_id] = seen.attributes
        else:
            left_out.append(seen)
    _check_outputs(template, attributes)
    removed = tuple(removals(context, {change.claims for change in changes if change.claims is not None}))
    return Plan(tuple(changes), removed, tuple(left_out), attributes, tuple(_notes(template, changes)))


def _notes(template: Template, changes: Sequence[Change]) -> Iterator[str]:
    """Dependencies that are not there; settings that alone publish no version, which is a surprise on AWS, too."""
    yield from (told for code in template.codes.values() if (told := not_built(code.path)) is not None)
    by_id = {change.logical_id: change for change in changes}
    for one in template.resources:
        if one.kind != "AWS::Lambda::Version" or by_id[one.logical_id].action is not Action.KEEP:
            continue
        for name in references(dict(one.properties)):
            function = by_id.get(name)
            if function is not None and any(not each.name.startswith("Tags.") for each in function.differences):
                yield (
                    f"{name} changes, but no version is published, because {one.logical_id} is still the same: as on "
                    "AWS, SAM publishes for new code only, unless AutoPublishAliasAllProperties is true."
                )


def walk(
    context: Context, template: Template, attributes: dict[str, Attributes]
) -> Iterator[tuple[Declared, Change | LeftOut]]:
    """Each resource with its change, in order.

    The caller puts a change's attributes into `attributes` before it goes on; those of resources that are left out are
    put there here.
    """
    resolver = template.resolver(attributes)
    for one in template.resources:
        if one.kind in KINDS:
            yield one, _change(context, one, resolver)
        else:
            attributes[one.logical_id] = stand_in(context, one, resolver)
            yield one, LeftOut(one.logical_id, sentence(one.logical_id, one.kind, attributes[one.logical_id]))


def change_of(context: Context, template: Template, one: Declared, attributes: Mapping[str, Attributes]) -> Change:
    """The change of one resource, when the others have these attributes."""
    return _change(context, one, template.resolver(attributes))


def _change(context: Context, one: Declared, resolver: Resolver) -> Change:
    properties: Mapping[str, Any] = resolver.resolve(dict(one.properties), one.logical_id)
    waiting = next((properties[name] for name in _NAMING if isinstance(properties.get(name), Unknown)), None)
    if waiting is not None:
        title = f"{one.kind.rpartition('::')[2]} of a resource that is {waiting.what}"
        shown = tuple(Difference(name, None, value) for name, value in properties.items())
        return Change(one.logical_id, title, Action.CREATE, _Waiting(), shown)
    return KINDS[one.kind](context, one, properties)


class _Waiting(dict[str, Any]):
    """Attributes of a resource of which nothing is known yet."""

    def __missing__(self, name: str) -> Unknown:
        return Unknown("known after deploying")

    def __contains__(self, name: object) -> bool:
        return True


def stand_in(context: Context, one: Declared, resolver: Resolver) -> Attributes:
    """What references to a resource that is not Thaw's become.

    Only its name is resolved: the rest may use what only AWS has.
    """
    names: dict[str, Any] = {}
    for name, value in one.properties.items():
        if name == "Path" or name.endswith("Name"):
            try:
                names[name] = resolver.resolve(value, f"{one.logical_id}.{name}")
            except TemplateError:
                continue  # a placeholder does without
    return placeholder(one.logical_id, one.kind, names, context.place, context.stack)


def _check_outputs(template: Template, attributes: Mapping[str, Attributes]) -> None:
    """An output that refers to nothing is found before anything is changed."""
    template.outputs(attributes)
