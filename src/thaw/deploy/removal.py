"""What a stack has made and its template does not want any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any

from thaw.deploy import ownership
from thaw.deploy.asking import pages
from thaw.deploy.change import Action, Change, Context, Undo, claim
from thaw.deploy.intrinsics import Attributes
from thaw.deploy.ownership import Owned, owned_by
from thaw.deploy.resources.functions import FUNCTION
from thaw.deploy.resources.permissions import claimed, statements

# The order in which things can go: an alias needs its version.
_ORDER = ("event-invoke", "url", "alias", "version")


def removals(context: Context, claims: Set[str | None]) -> Iterator[Change]:
    """A change for everything that the stack owns and that `claims` does not name; whole functions come last."""
    functions = list(_functions(context))
    for name, tags in functions:
        if claim(name, FUNCTION) in claims:
            yield from _statements(context, name, tags, claims)
            yield from _owned(context, name, tags, claims)
    for name, tags in functions:
        if claim(name, FUNCTION) not in claims and not tags[ownership.LOGICAL_ID].endswith("/retain"):
            work = _deletes(context.client.delete_function, FunctionName=name)
            logical_id = tags[ownership.LOGICAL_ID]
            yield Change(logical_id, f"function {name}", Action.DELETE, {}, work=work)


def forget_retained(context: Context, claims: Set[str | None]) -> None:
    """What left the template and was to be retained belongs to the stack no longer."""
    for name, tags in _functions(context):
        arn = context.place.arn("lambda", f"function:{name}")
        if claim(name, FUNCTION) not in claims:
            gone = [key for key in tags if key.startswith(ownership.PREFIX)]
        else:
            gone = [one.tag for one in owned_by(tags) if claim(name, one.tag) not in claims]
        if gone:
            context.client.untag_resource(Resource=arn, TagKeys=gone)


def _functions(context: Context) -> Iterator[tuple[str, dict[str, str]]]:
    """Name and tags of each function of the stack."""
    for item in pages(context.client, "list_functions", "Functions"):
        tags: dict[str, str] = context.client.list_tags(Resource=item["FunctionArn"])["Tags"]
        if tags.get(ownership.STACK) == context.stack:
            yield item["FunctionName"], {ownership.LOGICAL_ID: "", **tags}


def _statements(context: Context, name: str, tags: dict[str, str], claims: Set[str | None]) -> Iterator[Change]:
    """Statements of policies: they say by their id which stack made them."""
    client = context.client
    aliases = [item["Name"] for item in pages(client, "list_aliases", "Aliases", FunctionName=name)]
    versions = [one.name for one in owned_by(tags) if one.kind == "version"]
    for qualifier in (None, *aliases, *versions):
        where = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})
        for sid in statements(client, where):
            ours = sid.startswith(ownership.statement_prefix(context.stack))
            if ours and claim(name, claimed(qualifier, sid)) not in claims:
                work = _deletes(client.remove_permission, **where, StatementId=sid)
                logical_id = sid.removeprefix(ownership.statement_prefix(context.stack))
                title = f"permission on {':'.join(where.values())}"
                yield Change(logical_id, title, Action.DELETE, {}, work=work)


def _owned(context: Context, name: str, tags: dict[str, str], claims: Set[str | None]) -> Iterator[Change]:
    for one in sorted(owned_by(tags), key=lambda one: _ORDER.index(one.kind)):
        if claim(name, one.tag) not in claims and not one.retained:
            title = f"{one.kind} {one.name} of {name}"
            yield Change(one.logical_id, title, Action.DELETE, {}, work=_delete_owned(context, name, one))


def _delete_owned(context: Context, name: str, one: Owned) -> Callable[[Undo], Attributes]:
    client = context.client
    qualified = {"FunctionName": name} | ({} if one.name == ownership.LATEST else {"Qualifier": one.name})
    if one.kind == "alias":
        return _deletes(client.delete_alias, FunctionName=name, Name=one.name)
    if one.kind == "version":
        return _deletes(client.delete_function, FunctionName=name, Qualifier=one.name)
    if one.kind == "url":
        return _deletes(client.delete_function_url_config, **qualified)
    return _deletes(client.delete_function_event_invoke_config, **qualified)


def _deletes(call: Callable[..., Any], **arguments: Any) -> Callable[[Undo], Attributes]:
    """Deleting; what is gone already is as good."""

    def work(_: Undo) -> Attributes:
        from botocore.exceptions import ClientError

        try:
            call(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
        return {}

    return work
