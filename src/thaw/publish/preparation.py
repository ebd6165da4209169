"""From a configuration in the catalog to all that an environment needs: code on this machine, runtime, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from thaw.catalog.configuration import Configuration
from thaw.environment.settings import FunctionSettings, InitializationType, LoggingSettings
from thaw.errors import RuntimeNotFound
from thaw.runtimes.runtime import Circumstances, Runtime

# What the bootstrap reads: clones keep the random state of their snapshot. A function may set it for itself, too.
NO_RESEED = {"THAW_RESEED": "0"}


class RuntimeFinding(Protocol):
    """`thaw.runtimes.Runtimes`: finds a runtime of this machine, or raises RuntimeNotFound."""

    async def find(self, name: str) -> Runtime: ...


class CodeFinding(Protocol):
    """`CodeFolders`: the unpacked package of a key."""

    async def folder(self, key: str) -> Path: ...


class LayerFinding(Protocol):
    """`LayerFolders`: the folder of a combination of layers, None for none."""

    async def folder(self, keys: Sequence[str]) -> Path | None: ...


class Preparation:
    """Makes FunctionSettings; the first time on a worker this may unpack code and complete a runtime (seconds).

    `reseed` says whether clones get fresh seeds for the generators that CPython and numpy keep.
    """

    def __init__(
        self,
        folders: CodeFinding,
        layers: LayerFinding,
        runtimes: RuntimeFinding,
        *,
        region: str,
        account_id: str,
        reseed: bool = True,
    ) -> None:
        self._folders = folders
        self._layers = layers
        self._runtimes = runtimes
        self._region = region
        self._account_id = account_id
        self._added: Mapping[str, str] = {} if reseed else NO_RESEED

    async def runtime(self, configuration: Configuration) -> Runtime:
        """The runtime of `configuration`; raises RuntimeNotFound with a sentence for the function's owner."""
        if configuration.runtime is None:
            raise RuntimeNotFound(
                f"The function {configuration.function_name} names no runtime, and functions from container images "
                "are not supported: create it from a zip with a Runtime."
            )
        return await self._runtimes.find(configuration.runtime)

    async def settings(
        self, configuration: Configuration, initialization_type: InitializationType, credentials_token: str = ""
    ) -> FunctionSettings:
        """The settings of an environment for `configuration`.

        Raises RuntimeNotFound, ServiceError or StoreError where runtime or code are not to be had.
        """
        task = await self._folders.folder(configuration.code_key)
        layers = await self._layers.folder([layer.content_key for layer in configuration.layers])
        runtime = await self.runtime(configuration)
        circumstances = Circumstances(task=task, layers=layers, memory_mib=configuration.memory_size)
        return FunctionSettings(
            function_name=configuration.function_name,
            version=configuration.version,
            function_arn=configuration.function_arn,
            handler=configuration.handler or "",
            timeout_s=float(configuration.timeout),
            memory_mib=configuration.memory_size,
            ephemeral_mib=configuration.ephemeral_storage,
            variables={**self._added, **configuration.environment},
            region=self._region,
            account_id=self._account_id,
            initialization_type=initialization_type,
            task=task,
            layers=layers,
            runtime=runtime.adapted(circumstances),
            log_group=configuration.log_group,
            logging=_logging(configuration),
            credentials_token=credentials_token,
        )


def _logging(configuration: Configuration) -> LoggingSettings:
    config = configuration.logging_config
    return LoggingSettings(
        log_format=configuration.log_format,
        application_level=config.get("ApplicationLogLevel", "INFO"),
        system_level=config.get("SystemLogLevel", "INFO"),
    )
