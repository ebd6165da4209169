"""Function URLs as settings: Create-, Get-, Update-, List- and DeleteFunctionUrlConfig."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import msgspec

from thaw.api import paging
from thaw.api.http import Handler, Request, Response, json_response, no_content, without_none
from thaw.api.identifier import Identifier, Identifiers
from thaw.api.ports import ApiSettings
from thaw.api.resource import Resource
from thaw.catalog import refusals
from thaw.catalog.attachments import FunctionUrl, Holder
from thaw.catalog.catalog import Catalog
from thaw.catalog.transitions import now
from thaw.errors import ServiceError

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 32


class UrlConfigs(Resource):
    """The operations on function URLs; a URL hangs on a function ($LATEST) or on an alias."""

    def __init__(self, catalog: Catalog, identifiers: Identifiers, settings: ApiSettings) -> None:
        super().__init__(catalog, identifiers)
        self._region = settings.region

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {
            "CreateFunctionUrlConfig": self.create,
            "DeleteFunctionUrlConfig": self.delete,
            "GetFunctionUrlConfig": self.get,
            "ListFunctionUrlConfigs": self.list,
            "UpdateFunctionUrlConfig": self.update,
        }

    async def create(self, arguments: Any, request: Request) -> Response:
        """CreateFunctionUrlConfig."""
        where = self._where(arguments)
        time = now()
        url = FunctionUrl(
            url_id="".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH)),
            auth_type=arguments.auth_type,
            invoke_mode=arguments.invoke_mode or "BUFFERED",
            cors=_cors(arguments),
            creation_time=time,
            last_modified_time=time,
        )

        def change(_: Holder, before: FunctionUrl | None) -> FunctionUrl:
            if before is not None:
                arn = self._catalog.function_arn(where.name, where.qualifier)
                raise ServiceError(
                    "ResourceConflictException",
                    f"Failed to create function url config for [functionArn = {arn}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function",
                )
            return url

        await self._change(where, change)
        document = self._document(where, url, request)
        del document["LastModifiedTime"]
        if arguments.invoke_mode is None:
            del document["InvokeMode"]
        return json_response(201, document)

    async def get(self, arguments: Any, request: Request) -> Response:
        """GetFunctionUrlConfig."""
        where = self._where(arguments)
        url = _there(await self._attached.get(FunctionUrl, where.name, where.qualifier))
        return json_response(200, self._document(where, url, request))

    async def update(self, arguments: Any, request: Request) -> Response:
        """UpdateFunctionUrlConfig: what is not given stays, Cors is replaced as a whole."""
        where = self._where(arguments)

        def change(_: Holder, before: FunctionUrl | None) -> FunctionUrl:
            url = _there(before)
            return replace(
                url,
                auth_type=arguments.auth_type or url.auth_type,
                invoke_mode=arguments.invoke_mode or url.invoke_mode,
                cors=url.cors if arguments.cors is None else _cors(arguments),
                last_modified_time=now(),
            )

        url = _there(await self._change(where, change))
        return json_response(200, self._document(where, url, request))

    async def delete(self, arguments: Any, _: Request) -> Response:
        """DeleteFunctionUrlConfig."""
        where = self._where(arguments)
        _there(await self._attached.get(FunctionUrl, where.name, where.qualifier))
        await self._change(where, lambda _, __: None)
        return no_content()

    async def list(self, arguments: Any, request: Request) -> Response:
        """ListFunctionUrlConfigs: the function's own first, then those of its aliases."""
        name = self._identifiers.read(arguments.function_name).name
        await self._check_holder(Identifier(name, None))
        (after,) = paging.read_marker(arguments.marker, tuple[str], ("",))
        found = await self._attached.of_function(FunctionUrl, name)
        rest = [one for one in found if one.qualifier > after]
        page, marker = paging.one_page(rest, paging.page_size(arguments.max_items), lambda one: (one.qualifier,))
        configs = [self._document(Identifier(name, one.qualifier), one.value, request) for one in page]
        return json_response(200, {"NextMarker": marker, "FunctionUrlConfigs": configs})

    async def _change(self, where: Identifier, change: Any) -> FunctionUrl | None:
        await self._check_holder(where)
        return await self._attached.change(
            FunctionUrl, where.name, where.qualifier, change, lookup=lambda url: url.url_id
        )

    async def _check_holder(self, where: Identifier) -> None:
        """Raises ResourceNotFoundException in the words of these operations."""
        try:
            await self._attached.holder(where.name, where.qualifier)
        except ServiceError as error:
            raise ServiceError(error.code, "Function does not exist") from error

    def _where(self, arguments: Any) -> Identifier:
        return self._identifiers.read(arguments.function_name, arguments.qualifier)

    def _document(self, where: Identifier, url: FunctionUrl, request: Request) -> dict[str, Any]:
        qualifier = None if where.qualifier == "$LATEST" else where.qualifier
        return without_none(
            {
                "FunctionUrl": self._address(url.url_id, request.base_url),
                "FunctionArn": self._catalog.function_arn(where.name, qualifier),
                "AuthType": url.auth_type,
                "Cors": url.cors,
                "CreationTime": url.creation_time,
                "LastModifiedTime": url.last_modified_time,
                "InvokeMode": url.invoke_mode,
            }
        )

    def _address(self, url_id: str, base_url: str) -> str:
        """The URL under the host by which this client reaches the server; an address has no names below it."""
        reached = urlsplit(base_url)
        host = "localhost" if _is_address(reached.hostname or "") else reached.hostname
        port = f":{reached.port}" if reached.port else ""
        return f"{reached.scheme}://{url_id}.lambda-url.{self._region}.{host}{port}/"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _there(url: FunctionUrl | None) -> FunctionUrl:
    if url is None:
        raise refusals.no_resource()
    return url


def _cors(arguments: Any) -> dict[str, Any] | None:
    return without_none(msgspec.to_builtins(arguments.cors)) or None if arguments.cors is not None else None
