"""What becomes of asynchronous calls: the operations on EventInvokeConfigs."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thaw.api import members, paging
from thaw.api.http import Handler, Request, Response, json_response, no_content, without_none
from thaw.api.identifier import Identifier
from thaw.api.resource import Resource
from thaw.catalog.attachments import Attached, EventInvokeConfig
from thaw.catalog.configuration import LATEST
from thaw.errors import ServiceError

_SERVICE = re.compile(r"arn:aws[a-zA-Z0-9-]*:(lambda|sqs|sns|events|s3):.*", re.ASCII)


class EventInvokeConfigs(Resource):
    """The operations on the configuration of asynchronous calls."""

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {
            "DeleteFunctionEventInvokeConfig": self.delete,
            "GetFunctionEventInvokeConfig": self.get,
            "ListFunctionEventInvokeConfigs": self.list,
            "PutFunctionEventInvokeConfig": self.put,
            "UpdateFunctionEventInvokeConfig": self.update,
        }

    async def put(self, arguments: Any, _: Request) -> Response:
        """PutFunctionEventInvokeConfig: what is not given goes back to its default."""
        where = self._where(arguments)
        given = await self._given(arguments, where)
        config = EventInvokeConfig(**given, last_modified=time.time())
        await self._change(where, lambda _, __: config)
        return json_response(200, self._document(where, config))

    async def update(self, arguments: Any, _: Request) -> Response:
        """UpdateFunctionEventInvokeConfig: what is not given stays."""
        where = self._where(arguments)
        given = await self._given(arguments, where)

        def change(_: Any, before: EventInvokeConfig | None) -> EventInvokeConfig:
            return replace(self._there(where, before), **given, last_modified=time.time())

        config = self._there(where, await self._change(where, change))
        return json_response(200, self._document(where, config))

    async def get(self, arguments: Any, _: Request) -> Response:
        """GetFunctionEventInvokeConfig."""
        where = self._where(arguments)
        config = self._there(where, await self._attached.get(EventInvokeConfig, where.name, where.qualifier))
        return json_response(200, self._document(where, config))

    async def delete(self, arguments: Any, _: Request) -> Response:
        """DeleteFunctionEventInvokeConfig."""
        where = self._where(arguments)
        self._there(where, await self._attached.get(EventInvokeConfig, where.name, where.qualifier))
        await self._change(where, lambda _, __: None)
        return no_content()

    async def list(self, arguments: Any, _: Request) -> Response:
        """ListFunctionEventInvokeConfigs."""
        name = self._identifiers.read(arguments.function_name).name
        await self._check_holder(Identifier(name, None))
        (after,) = paging.read_marker(arguments.marker, tuple[str], ("",))
        found = await self._attached.of_function(EventInvokeConfig, name)
        rest: list[Attached[EventInvokeConfig]] = [one for one in found if one.qualifier > after]
        page, marker = paging.one_page(rest, paging.page_size(arguments.max_items), lambda one: (one.qualifier,))
        configs = [self._document(Identifier(name, one.qualifier), one.value) for one in page]
        return json_response(200, {"NextMarker": marker, "FunctionEventInvokeConfigs": configs})

    async def _change(self, where: Identifier, change: Any) -> EventInvokeConfig | None:
        await self._check_holder(where)
        return await self._attached.change(EventInvokeConfig, where.name, where.qualifier, change)

    async def _check_holder(self, where: Identifier) -> None:
        """Raises ResourceNotFoundException in the words of these operations."""
        try:
            await self._attached.holder(where.name, where.qualifier)
        except ServiceError as error:
            raise ServiceError(error.code, "The function doesn't exist.") from error

    async def _given(self, arguments: Any, where: Identifier) -> dict[str, Any]:
        """The fields that a request sets; an empty destination takes the one before it away."""
        settings = without_none(
            {
                "maximum_retry_attempts": arguments.maximum_retry_attempts,
                "maximum_event_age_s": arguments.maximum_event_age_in_seconds,
            }
        )
        if not settings and arguments.destination_config is None:
            raise members.refuse("You must specify at least one of error handling or destination setting.")
        await self._check_holder(where)
        if arguments.destination_config is not None:
            settings |= await self._destinations(arguments.destination_config, where)
        return settings

    async def _destinations(self, given: Any, where: Identifier) -> dict[str, str | None]:
        success = (given.on_success and given.on_success.destination) or None
        failure = (given.on_failure and given.on_failure.destination) or None
        if any(one is not None and not _SERVICE.fullmatch(one) for one in (success, failure)):
            shown = (
                "null" if one is None else f"{name}(destination={one})"
                for name, one in (("OnSuccess", success), ("OnFailure", failure))
            )
            raise members.refuse(
                "The provided destination config DestinationConfig"
                f"(onSuccess={next(shown)}, onFailure={next(shown)}) is invalid."
            )
        for destination in (success, failure):
            if destination is not None and ":lambda:" in destination:
                await self._check_function(destination, where)
        found = (("on_success", given.on_success, success), ("on_failure", given.on_failure, failure))
        return {name: value for name, part, value in found if part is not None}

    async def _check_function(self, arn: str, where: Identifier) -> None:
        invalid = members.refuse(f"The destination ARN {arn} is invalid.")
        try:
            destination = self._identifiers.read(arn)
            await self._attached.holder(destination.name, destination.qualifier)
        except ServiceError as error:
            raise invalid from error
        if destination.name == where.name:
            raise members.refuse("You can't specify the function as a destination for itself.")

    def _where(self, arguments: Any) -> Identifier:
        return self._identifiers.read(arguments.function_name, arguments.qualifier)

    def _there(self, where: Identifier, config: EventInvokeConfig | None) -> EventInvokeConfig:
        if config is None:
            raise ServiceError(
                "ResourceNotFoundException", f"The function {self._arn(where)} doesn't have an EventInvokeConfig"
            )
        return config

    def _arn(self, where: Identifier) -> str:
        return self._catalog.function_arn(where.name, where.qualifier or LATEST)

    def _document(self, where: Identifier, config: EventInvokeConfig) -> dict[str, Any]:
        return without_none(
            {
                "LastModified": config.last_modified,
                "FunctionArn": self._arn(where),
                "MaximumRetryAttempts": config.maximum_retry_attempts,
                "MaximumEventAgeInSeconds": config.maximum_event_age_s,
                "DestinationConfig": {
                    "OnSuccess": without_none({"Destination": config.on_success}),
                    "OnFailure": without_none({"Destination": config.on_failure}),
                },
            }
        )
