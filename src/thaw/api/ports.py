"""What the AWS front needs from the parts below it; `thaw.publish` and `thaw.invoke` satisfy these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from thaw.catalog.configuration import Configuration
from thaw.invoke.call import Answer, Call


class ApiSettings(Protocol):
    """The settings of the server that the front reads: region and account of ARNs, who may call, where S3 is."""

    @property
    def region(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def credentials_file(self) -> Path | None: ...
    @property
    def s3_endpoint(self) -> str | None: ...
    @property
    def aws_parity(self) -> bool: ...


class Publishing(Protocol):
    """What follows a change in the catalog. Every method returns soon; the work goes on in the background."""

    async def function_created(self, configuration: Configuration, code: bytes) -> None:
        """Stores and unpacks the zip, then (later) sets $LATEST Active or Failed in the catalog.

        Raises ServiceError or CodePackageError where the package cannot be taken; the function is then forgotten.
        """

    async def code_updated(self, configuration: Configuration, code: bytes) -> None:
        """As function_created, for new code; ends in LastUpdateStatus Successful or Failed.

        Until then, and after a failure, calls of $LATEST are served by the previous configuration.
        """

    async def configuration_updated(self, configuration: Configuration) -> None:
        """Makes new settings of $LATEST take effect; ends in LastUpdateStatus Successful or Failed."""

    async def version_published(self, configuration: Configuration) -> None:
        """Begins Init and snapshot of a SnapStart version that is Pending; ends in Active/On or Failed."""

    async def awaken(self, configuration: Configuration) -> None:
        """Begins a new snapshot of a version that is Inactive, because nobody called it; it is Pending then.

        Nothing happens where it is in another state.
        """

    async def deleted(self, configurations: Sequence[Configuration]) -> None:
        """Drops environments, snapshots and code of what is no longer in the catalog."""

    async def code(self, configuration: Configuration) -> bytes:
        """The deployment package (zip), for GetFunction's Code.Location."""


class LayerPackages(Protocol):
    """What keeps the zips of layers, under the hex SHA-256 of their content; `thaw.publish` satisfies it."""

    async def store_layer(self, content: bytes) -> None:
        """Checks that the zip can be unpacked, and stores it. Raises CodePackageError or ServiceError."""

    async def layer_content(self, key: str) -> bytes:
        """The zip of a layer, for GetLayerVersion's Content.Location."""

    async def layers_dropped(self, keys: Sequence[str]) -> None:
        """Deletes the zips and folders of those keys that `catalog.layers.used_content(keys)` does not name."""


class Provisioning(Protocol):
    """What keeps environments ready; `thaw.invoke` satisfies it."""

    async def provisioning_changed(self, name: str, qualifier: str) -> None:
        """Brings the ready environments of a version or alias, in the background, to what the catalog asks for.

        That is `catalog.attachments.get(ProvisionedConcurrency, name, qualifier)`, None for none; how far it got is
        told to `catalog.concurrency.report`. Called after every change, also when an alias moves or goes.
        """


class Invoking(Protocol):
    """What runs a call."""

    async def invoke(self, call: Call) -> Answer:
        """Runs the call in an environment of its own; raises ServiceError where no environment could be had."""

    async def enqueue(self, call: Call) -> None:
        """Takes an asynchronous call; it survives the server once this returns. Its payload is at most 1 MiB."""
