"""Smaller settings of functions: runtime updates, recursion, code signing, scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.api import members
from thaw.api.http import Handler, Request, Response, json_response, no_content
from thaw.api.identifier import Identifier
from thaw.api.resource import Resource
from thaw.catalog import refusals
from thaw.catalog.attachments import Holder, Recursion, RuntimeManagement
from thaw.catalog.configuration import LATEST, Alias
from thaw.errors import ServiceError


class FunctionSettings(Resource):
    """The operations on settings that tools read and write one by one."""

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {
            "DeleteFunctionCodeSigningConfig": self.delete_code_signing,
            "GetFunctionCodeSigningConfig": self.get_code_signing,
            "GetFunctionRecursionConfig": self.get_recursion,
            "GetFunctionScalingConfig": self.get_scaling,
            "GetRuntimeManagementConfig": self.get_runtime_management,
            "PutFunctionCodeSigningConfig": self.put_code_signing,
            "PutFunctionRecursionConfig": self.put_recursion,
            "PutRuntimeManagementConfig": self.put_runtime_management,
        }

    # --- runtime management ------------------------------------------------------------------------------------------

    async def get_runtime_management(self, arguments: Any, _: Request) -> Response:
        """GetRuntimeManagementConfig: Auto unless it was set."""
        where = self._version(arguments)
        await self._attached.holder(where.name, where.qualifier)
        found = await self._attached.get(RuntimeManagement, where.name, where.qualifier)
        return json_response(200, self._runtime_management(where, found or RuntimeManagement()))

    async def put_runtime_management(self, arguments: Any, _: Request) -> Response:
        """PutRuntimeManagementConfig; Manual names the runtime version that the function has now."""
        where = self._version(arguments)
        given = RuntimeManagement(
            update_runtime_on=arguments.update_runtime_on, runtime_version_arn=arguments.runtime_version_arn
        )

        def change(holder: Holder, _: RuntimeManagement | None) -> RuntimeManagement:
            _check_runtime_version(holder, given)
            return given

        await self._attached.change(RuntimeManagement, where.name, where.qualifier, change)
        return json_response(200, self._runtime_management(where, given))

    def _runtime_management(self, where: Identifier, value: RuntimeManagement) -> dict[str, Any]:
        return {
            "UpdateRuntimeOn": value.update_runtime_on,
            "FunctionArn": self._catalog.function_arn(where.name, where.qualifier or LATEST),
            "RuntimeVersionArn": value.runtime_version_arn,
        }

    # --- recursion ---------------------------------------------------------------------------------------------------

    async def get_recursion(self, arguments: Any, _: Request) -> Response:
        """GetFunctionRecursionConfig: Terminate unless it was set."""
        name = await self._function(arguments)
        found = await self._attached.get(Recursion, name)
        return json_response(200, {"RecursiveLoop": (found or Recursion()).recursive_loop})

    async def put_recursion(self, arguments: Any, _: Request) -> Response:
        """PutFunctionRecursionConfig; kept and shown, this server sees no loops."""
        name = self._identifiers.read_unqualified(arguments.function_name)
        given = Recursion(recursive_loop=arguments.recursive_loop)
        await self._attached.change(Recursion, name, None, lambda _, __: given)
        return json_response(200, {"RecursiveLoop": given.recursive_loop})

    # --- code signing, scaling ---------------------------------------------------------------------------------------

    async def get_code_signing(self, arguments: Any, _: Request) -> Response:
        """GetFunctionCodeSigningConfig: functions of this server have none, which is an empty document."""
        await self._function(arguments)
        return json_response(200, {})

    async def put_code_signing(self, arguments: Any, _: Request) -> Response:
        """PutFunctionCodeSigningConfig: there are no code signing configurations here that it could name."""
        await self._function(arguments)
        raise ServiceError(
            "CodeSigningConfigNotFoundException",
            "The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
            f"{arguments.code_signing_config_arn}.",
        )

    async def delete_code_signing(self, arguments: Any, _: Request) -> Response:
        """DeleteFunctionCodeSigningConfig: there is nothing to take away, which is no error."""
        await self._function(arguments)
        return no_content()

    async def get_scaling(self, arguments: Any, _: Request) -> Response:
        """GetFunctionScalingConfig: a version outside managed instances has no limits of this kind."""
        where = self._identifiers.read(arguments.function_name, arguments.qualifier)
        await self._attached.holder(where.name, where.qualifier)
        return json_response(200, {"FunctionArn": self._catalog.function_arn(where.name, where.qualifier)})

    async def _function(self, arguments: Any) -> str:
        """The plain name of a function that is there. Raises ResourceNotFoundException."""
        name = self._identifiers.read(arguments.function_name).name
        await self._catalog.function(name)
        return name

    def _version(self, arguments: Any) -> Identifier:
        return self._identifiers.read(arguments.function_name, arguments.qualifier)


def _check_runtime_version(holder: Holder, given: RuntimeManagement) -> None:
    """Runtime versions are those that the host has: only the present one can be named."""
    if isinstance(holder, Alias):
        raise refusals.function_not_found(holder.alias_arn)
    if given.update_runtime_on != "Manual":
        if given.runtime_version_arn is not None:
            raise members.refuse("RuntimeVersionArn is for the runtime update mode Manual only: leave it out.")
        return
    if given.runtime_version_arn is None:
        raise members.refuse("The runtime update mode Manual needs a RuntimeVersionArn: add it to the request.")
    if given.runtime_version_arn != holder.runtime_version_arn:
        raise members.refuse(
            f"The runtime version {given.runtime_version_arn} is not on this server: name the one that "
            "GetFunctionConfiguration shows."
        )
