"""Writing into a function's tags what the stack made of it."""

from __future__ import annotations

from thaw.deploy.change import Context, Undo
from thaw.deploy.ownership import Owned


def own(context: Context, name: str, owned: Owned, undo: Undo) -> None:
    """Remembers that the stack made `owned` of the function; taken back with the rest."""
    client = context.client
    arn = context.place.arn("lambda", f"function:{name}")
    before = client.list_tags(Resource=arn)["Tags"].get(owned.tag)
    if before == owned.text:
        return

    def forget() -> None:
        if before is None:
            client.untag_resource(Resource=arn, TagKeys=[owned.tag])
        else:
            client.tag_resource(Resource=arn, Tags={owned.tag: before})

    undo.push(f"forgetting {owned.kind} {owned.name} of {name}", forget)
    client.tag_resource(Resource=arn, Tags={owned.tag: owned.text})
