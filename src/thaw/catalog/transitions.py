"""How a configuration changes: pure functions from one Configuration to the next.

The states by step are Lambda's, as recorded (research, contract.md section 2): a version is Pending without
LastUpdateStatus until it is ready; $LATEST keeps state Active during an update and shows LastUpdateStatus InProgress.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET, UnsetType

from thaw.catalog.configuration import Configuration

_CREATING: dict[str, Any] = {
    "state": "Pending",
    "state_reason": "The function is being created.",
    "state_reason_code": "Creating",
    "last_update_status": None,
    "last_update_status_reason": None,
    "last_update_status_reason_code": None,
    "optimization_status": "Off",
    "snapshot_key": None,
}


def new_revision() -> str:
    """A fresh RevisionId; every change of what GetFunctionConfiguration shows brings one."""
    return str(uuid.uuid4())


def now() -> str:
    """The present time as LastModified shows it: 2026-11-21T01:41:11.123+0000."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")


def created(draft: Configuration) -> Configuration:
    """$LATEST of a function that was just created."""
    return replace(draft, **_CREATING, settings_digest=draft.digest(), revision_id=new_revision(), last_modified=now())


def updating(changed: Configuration) -> Configuration:
    """$LATEST with new settings or new code that do not serve calls yet."""
    return replace(
        changed,
        last_update_status="InProgress",
        last_update_status_reason="The function is being created.",
        last_update_status_reason_code="Creating",
        settings_digest=changed.digest(),
        revision_id=new_revision(),
        last_modified=now(),
    )


def published(latest: Configuration, number: int, description: str | None) -> Configuration:
    """A new version of $LATEST: Pending where it gets a snapshot or $LATEST is not ready itself, else Active."""
    version = replace(
        latest,
        **_CREATING,
        version=str(number),
        description=latest.description if description is None else description,
        revision_id=new_revision(),
        last_modified=now(),
    )
    return version if version.snap_start else settled_as(latest, version)


def settled_as(latest: Configuration, version: Configuration) -> Configuration:
    """A version that waits for nothing but $LATEST's creation or update, with the outcome of that (if it has one)."""
    if "Failed" in (latest.state, latest.last_update_status):
        return with_state(
            version,
            state="Failed",
            state_reason=latest.last_update_status_reason,
            state_reason_code=latest.last_update_status_reason_code,
        )
    if latest.state == "Active" and latest.last_update_status == "Successful":
        return with_state(version, state="Active", runtime_version_arn=latest.runtime_version_arn)
    return version


def with_state(
    configuration: Configuration,
    *,
    state: str | UnsetType = UNSET,
    state_reason: str | UnsetType | None = UNSET,
    state_reason_code: str | UnsetType | None = UNSET,
    last_update_status: str | UnsetType | None = UNSET,
    last_update_status_reason: str | UnsetType | None = UNSET,
    last_update_status_reason_code: str | UnsetType | None = UNSET,
    **others: Any,
) -> Configuration:
    """The configuration in another state and under a new revision; what is UNSET follows from what is given.

    A state without a reason has none. A state that settles a creation settles LastUpdateStatus too (Active:
    Successful, Failed: Failed), and a successful update of a function that had failed makes it Active.
    """
    changes = {name: value for name, value in others.items() if value is not UNSET}
    if state is UNSET and last_update_status == "Successful":
        state = "Active"
    if state is not UNSET:
        changes |= _settled("state", state, state_reason, state_reason_code)
        if last_update_status is UNSET:
            last_update_status = {"Active": "Successful", "Failed": "Failed"}.get(str(state), UNSET)
            last_update_status_reason = (
                state_reason if last_update_status_reason is UNSET else last_update_status_reason
            )
            if last_update_status_reason_code is UNSET:
                last_update_status_reason_code = state_reason_code
    if last_update_status is not UNSET:
        changes |= _settled(
            "last_update_status", last_update_status, last_update_status_reason, last_update_status_reason_code
        )
    return replace(configuration, **changes, revision_id=new_revision())


def _settled(member: str, value: Any, reason: Any, code: Any) -> dict[str, Any]:
    return {
        member: value,
        f"{member}_reason": None if reason is UNSET else reason,
        f"{member}_reason_code": None if code is UNSET else code,
    }
