"""The errors that the catalog answers, in Lambda's words."""

from __future__ import annotations

from collections.abc import Iterable

from thaw.catalog.configuration import LATEST, Configuration
from thaw.errors import ServiceError


def function_not_found(arn: str) -> ServiceError:
    """No such function or version; `arn` carries the qualifier that was asked for."""
    return ServiceError("ResourceNotFoundException", f"Function not found: {arn}")


def function_exists(name: str) -> ServiceError:
    """CreateFunction for a name that is taken."""
    return ServiceError("ResourceConflictException", f"Function already exist: {name}")


def alias_not_found(arn: str) -> ServiceError:
    """No such alias."""
    return ServiceError("ResourceNotFoundException", f"Cannot find alias arn: {arn}")


def no_alias_to_update(arn: str) -> ServiceError:
    """UpdateAlias of an alias that is not there (Lambda words it differently from GetAlias)."""
    return ServiceError("ResourceNotFoundException", f"Alias not found: {arn}")


def alias_exists(arn: str) -> ServiceError:
    """CreateAlias for a name that is taken."""
    return ServiceError("ResourceConflictException", f"Alias already exists: {arn}")


def version_in_use(aliases: Iterable[str]) -> ServiceError:
    """DeleteFunction of a version that aliases point to."""
    names = ", ".join(aliases)
    return ServiceError(
        "ResourceConflictException", f"Unable to delete version because the following aliases reference it: [{names}]"
    )


def latest_cannot_go() -> ServiceError:
    """DeleteFunction with the qualifier $LATEST."""
    return ServiceError(
        "InvalidParameterValueException", f"{LATEST} version cannot be deleted without deleting the function."
    )


def wrong_state(state: str) -> ServiceError:
    """An operation or a call that has to wait for another state."""
    return ServiceError(
        "ResourceConflictException",
        f"The operation cannot be performed at this time. The function is currently in the following state: {state}",
    )


def wrong_revision(source: str = "GetFunction/GetAlias") -> ServiceError:
    """A RevisionId that is no longer the resource's; `source` is the operation that tells the right one."""
    return ServiceError(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        f"Call the {source} API to retrieve the latest Revision Id",
    )


def layer_not_found(arn: str) -> ServiceError:
    """An operation on the policy of a layer version that is not there."""
    return ServiceError("ResourceNotFoundException", f"Layer version {arn} does not exist.")


def layer_unusable(arn: str) -> ServiceError:
    """A function that asks for a layer version that is not there."""
    return ServiceError("InvalidParameterValueException", f"Layer version {arn} does not exist.")


def statement_exists(statement_id: str) -> ServiceError:
    """A permission under a statement id that is taken."""
    return ServiceError(
        "ResourceConflictException",
        f"The statement id ({statement_id}) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
    )


def statement_not_found(statement_id: str) -> ServiceError:
    """The removal of a permission that is not there."""
    return ServiceError("ResourceNotFoundException", f"Statement {statement_id} is not found in resource policy.")


def no_policy() -> ServiceError:
    """A resource without any statement."""
    return ServiceError("ResourceNotFoundException", "No policy is associated with the given resource.")


def no_resource() -> ServiceError:
    """What Lambda says where it does not want to name what is missing."""
    return ServiceError("ResourceNotFoundException", "The resource you requested does not exist.")


def wrong_code(given: str, current: str) -> ServiceError:
    """PublishVersion with a CodeSha256 that is not the one in $LATEST."""
    return ServiceError(
        "InvalidParameterValueException",
        f"CodeSHA256 ({given}) is different from current CodeSHA256 in {LATEST} ({current}). "
        f"Please try again with the CodeSHA256 in {LATEST}.",
    )


def check_settled(latest: Configuration) -> None:
    """Raises ResourceConflictException while $LATEST is being created or updated."""
    if latest.state == "Pending":
        raise wrong_state(latest.state)
    if latest.last_update_status == "InProgress":
        raise ServiceError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            f"An update is in progress for resource: {latest.function_arn}",
        )


def check_revision(given: str | None, current: str) -> None:
    """Raises PreconditionFailedException where a revision was given and is not the current one."""
    if given is not None and given != current:
        raise wrong_revision()


def check_invocable(configuration: Configuration) -> None:
    """Raises the error that a call of a configuration in its present state is answered with; none when Active."""
    if configuration.state == "Active":
        return
    if configuration.state == "Inactive" and configuration.snap_start:
        raise ServiceError(
            "SnapStartNotReadyException",
            "Lambda is initializing your function. It will be ready to invoke once your function state becomes ACTIVE.",
        )
    raise wrong_state(configuration.state)
