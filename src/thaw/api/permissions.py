"""Resource policies of functions, versions and aliases: AddPermission, GetPolicy, RemovePermission.

Lambda has no revision of a policy: RevisionId is that of the function, version or alias, and changes with its policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from thaw.api import members, statements
from thaw.api.http import Handler, Request, Response, json_response, no_content, without_none
from thaw.api.identifier import Identifier
from thaw.api.resource import Resource
from thaw.api.statements import Statement
from thaw.catalog import refusals
from thaw.catalog.attachments import Holder, Policy
from thaw.catalog.configuration import LATEST
from thaw.errors import ServiceError

# Lambda's quota of a function's resource-based policy, in bytes.
_LONGEST_POLICY = 20_480


class Permissions(Resource):
    """The operations on resource policies of functions."""

    def handlers(self) -> Mapping[str, Handler]:
        """Operation name to handler."""
        return {"AddPermission": self.add, "GetPolicy": self.get, "RemovePermission": self.remove}

    async def add(self, arguments: Any, _: Request) -> Response:
        """AddPermission."""
        where = self._where(arguments)
        if where.qualifier == LATEST:
            raise members.refuse(f"We currently do not support adding policies for {LATEST}.")
        statement = without_none(
            {
                "Sid": arguments.statement_id,
                "Effect": "Allow",
                "Principal": statements.principal(arguments.principal),
                "Action": arguments.action,
                "Resource": self._catalog.function_arn(where.name, where.qualifier),
                "Condition": _condition(arguments) or None,
            }
        )

        def change(holder: Holder, before: tuple[Statement, ...]) -> tuple[Statement, ...]:
            if arguments.revision_id not in (None, holder.revision_id):
                raise refusals.wrong_revision("GetPolicy")
            return _checked(statements.added(before, statement))

        await self._change(where, change)
        return json_response(201, {"Statement": statements.text(statement)})

    async def get(self, arguments: Any, _: Request) -> Response:
        """GetPolicy; where there is none, Lambda does not say what is missing."""
        where = self._where(arguments)
        policy = await self._catalog.attachments.get(Policy, where.name, where.qualifier)
        if policy is None:
            raise refusals.no_resource()
        holder = await self._catalog.attachments.holder(where.name, where.qualifier)
        text = statements.policy_text(policy.statements)
        return json_response(200, {"Policy": text, "RevisionId": holder.revision_id})

    async def remove(self, arguments: Any, _: Request) -> Response:
        """RemovePermission."""
        where = self._where(arguments)

        def change(holder: Holder, before: tuple[Statement, ...]) -> tuple[Statement, ...]:
            if not before:
                raise refusals.no_policy()
            rest = statements.removed(before, arguments.statement_id)
            refusals.check_revision(arguments.revision_id, holder.revision_id)
            return rest

        try:
            await self._change(where, change)
        except ServiceError as error:
            arn = self._catalog.function_arn(where.name)
            if error.message == f"Function not found: {arn}":
                raise ServiceError(error.code, f"No policy found for: {arn}") from error
            raise
        return no_content()

    async def _change(
        self, where: Identifier, change: Callable[[Holder, tuple[Statement, ...]], tuple[Statement, ...]]
    ) -> None:
        def policy(holder: Holder, before: Policy | None) -> Policy | None:
            after = change(holder, () if before is None else before.statements)
            return Policy(statements=after) if after else None

        await self._catalog.attachments.change(Policy, where.name, where.qualifier, policy, new_revision_of_holder=True)

    def _where(self, arguments: Any) -> Identifier:
        return self._identifiers.read(arguments.function_name, arguments.qualifier)


def _condition(arguments: Any) -> dict[str, Any]:
    equal = without_none(
        {
            "AWS:SourceAccount": arguments.source_account,
            "lambda:FunctionUrlAuthType": arguments.function_url_auth_type,
            "aws:PrincipalOrgID": arguments.principal_org_id,
            "lambda:EventSourceToken": arguments.event_source_token,
        }
    )
    via_url = arguments.invoked_via_function_url
    return without_none(
        {
            "StringEquals": equal or None,
            "ArnLike": {"AWS:SourceArn": arguments.source_arn} if arguments.source_arn else None,
            "Bool": None if via_url is None else {"lambda:InvokedViaFunctionUrl": str(via_url).lower()},
        }
    )


def _checked(policy: tuple[Statement, ...]) -> tuple[Statement, ...]:
    size = len(statements.policy_text(policy).encode())
    if size > _LONGEST_POLICY:
        raise ServiceError(
            "PolicyLengthExceededException",
            f"The final policy size ({size}) is bigger than the limit ({_LONGEST_POLICY}).",
        )
    return policy
