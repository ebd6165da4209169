"""ProvisionedConcurrencyConfig, which versions and aliases have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.deploy.asking import found
from thaw.deploy.change import Context, Difference, Undo
from thaw.deploy.shapes import fitted
from thaw.deploy.template import Declared

_NAME = "ProvisionedConcurrentExecutions"


def wanted(context: Context, one: Declared, properties: Mapping[str, Any]) -> int | None:
    """How many environments the template wants ready; None for none."""
    config = properties.get("ProvisionedConcurrencyConfig")
    if not config:
        return None
    where = f"{one.place}.ProvisionedConcurrencyConfig"
    count: int | None = fitted(context.client, "PutProvisionedConcurrencyConfig", config, where).get(_NAME)
    return count


def present(context: Context, name: str, qualifier: str) -> int | None:
    """How many were asked for on the server."""
    get = context.client.get_provisioned_concurrency_config
    config = found(get, FunctionName=name, Qualifier=qualifier)
    return None if config is None else int(config["RequestedProvisionedConcurrentExecutions"])


def difference(before: int | None, after: int | None) -> tuple[Difference, ...]:
    """What is shown of a change."""
    return () if before == after else (Difference("ProvisionedConcurrency", before, after),)


def apply(context: Context, name: str, qualifier: str, before: int | None, after: int | None, undo: Undo) -> None:
    """Asks the server for `after` environments; how soon they are ready is the server's business."""
    if before != after:
        undo.push(f"putting back {_NAME} of {name}:{qualifier}", lambda: _put(context, name, qualifier, before))
        _put(context, name, qualifier, after)


def _put(context: Context, name: str, qualifier: str, count: int | None) -> None:
    client, where = context.client, {"FunctionName": name, "Qualifier": qualifier}
    if count is None:
        client.delete_provisioned_concurrency_config(**where)
    else:
        client.put_provisioned_concurrency_config(**where, ProvisionedConcurrentExecutions=count)
