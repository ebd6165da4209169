"""GetAccountSettings, and the tags of functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.api import members
from thaw.api.http import Handler, Request, Response, json_response, no_content
from thaw.api.resource import Resource
from thaw.catalog.concurrency import ACCOUNT_CONCURRENCY

# Lambda's default quotas of an account; sizes in bytes.
_LIMITS = {
    "TotalCodeSize": 80_530_636_800,
    "CodeSizeUnzipped": 262_144_000,
    "CodeSizeZipped": 52_428_800,
    "ConcurrentExecutions": ACCOUNT_CONCURRENCY,
}
_MOST_TAGS = 50


class Account(Resource):
    """The operations on the account and on tags."""

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {
            "GetAccountSettings": self.get_settings,
            "ListTags": self.list_tags,
            "TagResource": self.tag,
            "UntagResource": self.untag,
        }

    async def get_settings(self, _: Any, __: Request) -> Response:
        """GetAccountSettings: Lambda's default limits, and what this server holds."""
        functions, size = await self._catalog.code_usage()
        usage = {"TotalCodeSize": size, "FunctionCount": functions}
        unreserved = {"UnreservedConcurrentExecutions": await self._catalog.concurrency.unreserved()}
        return json_response(200, {"AccountLimit": _LIMITS | unreserved, "AccountUsage": usage})

    async def list_tags(self, arguments: Any, _: Request) -> Response:
        """ListTags."""
        return json_response(200, {"Tags": await self._catalog.tags(self._function(arguments))})

    async def tag(self, arguments: Any, _: Request) -> Response:
        """TagResource."""
        if not arguments.tags:
            raise members.refuse("An error occurred and the request cannot be processed.")

        def add(tags: dict[str, str]) -> dict[str, str]:
            merged = {**tags, **arguments.tags}
            if len(merged) > _MOST_TAGS:
                raise members.refuse("Number of tags exceeds resource tag limit.")
            return merged

        await self._catalog.change_tags(self._function(arguments), add)
        return no_content()

    async def untag(self, arguments: Any, _: Request) -> Response:
        """UntagResource; a key that is not there is no error."""
        gone = set(arguments.tag_keys)
        await self._catalog.change_tags(
            self._function(arguments), lambda tags: {key: value for key, value in tags.items() if key not in gone}
        )
        return no_content()

    def _function(self, arguments: Any) -> str:
        if ":function:" not in arguments.resource:
            raise members.refuse("Only functions can be tagged on this server: name the ARN of a function.")
        identifier = self._identifiers.read(arguments.resource)
        if identifier.qualifier is not None:
            raise members.refuse(
                "Tags on function aliases and versions are not supported. Please specify a function ARN."
            )
        return identifier.name
