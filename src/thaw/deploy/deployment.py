"""Carrying a plan out: everything, or (where something fails) nothing."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from thaw.deploy.asking import reason_of
from thaw.deploy.change import Action, Change, Context, Undo
from thaw.deploy.intrinsics import Attributes
from thaw.deploy.plan import change_of, walk
from thaw.deploy.removal import forget_retained, removals
from thaw.deploy.template import Template
from thaw.errors import DeployFailed, ThawError

Tell = Callable[[str], None]
_DOING = {Action.CREATE: "creating", Action.UPDATE: "changing", Action.DELETE: "deleting"}
VERSION = "AWS::Lambda::Version"
_FAULTS = (ClientError, BotoCoreError, ThawError, OSError, KeyboardInterrupt)


@dataclass(frozen=True, slots=True)
class Deployed:
    """How many resources were created, changed, deleted and kept, and what is known of each by logical id."""

    counts: dict[Action, int]
    attributes: dict[str, Attributes]


def deploy(context: Context, template: Template, tell: Tell) -> Deployed:
    """Brings the stack to what the template says; `tell` hears of each step.

    Raises DeployFailed, whose sentence names the resource and the reason, after everything that was changed has been
    put back; only what a successful deployment leaves over is removed without a way back, at the very end.
    """
    undo = Undo()
    counts = dict.fromkeys(Action, 0)
    attributes: dict[str, Attributes] = {}
    claims: set[str | None] = set()
    current = "the stack"
    try:
        for one, seen in walk(context, template, attributes):
            if not isinstance(seen, Change):
                continue
            current = f"{one.logical_id} ({seen.title})"
            attributes[one.logical_id] = _carry_out(seen, undo, tell)
            counts[seen.action] += 1
            # A version has its number only now.
            known = (
                seen
                if seen.claims is not None or one.kind != VERSION
                else change_of(context, template, one, attributes)
            )
            claims.add(known.claims)
    except BaseException as error:
        failed = _failed(context, current, error, undo, tell)
        if isinstance(error, _FAULTS):
            raise failed from None
        raise  # a fault of our own keeps its trace
    counts[Action.DELETE] = _remove(context, claims, tell)
    return Deployed(counts, attributes)


def remove(context: Context, tell: Tell) -> int:
    """Removes everything that the stack has made; returns how many functions that were."""
    return _remove(context, set(), tell)


def _carry_out(change: Change, undo: Undo, tell: Tell) -> Attributes:
    if change.work is None:
        return change.attributes
    tell(f"{_DOING[change.action]} {change.title}")
    return change.work(undo)


def _remove(context: Context, claims: Set[str | None], tell: Tell) -> int:
    """Removes what the stack owns and nothing claims."""
    gone = 0
    current = "what is left over"
    try:
        for change in list(removals(context, claims)):
            current = f"{change.logical_id} ({change.title})"
            _carry_out(change, Undo(), tell)
            gone += 1
        forget_retained(context, claims)
    except _FAULTS as error:
        raise DeployFailed(
            f"The stack {context.stack} has what its template says, but {current} could not be removed: "
            f"{_reason(error)} Deploy again to try that again."
        ) from None
    return gone


def _failed(context: Context, current: str, error: BaseException, undo: Undo, tell: Tell) -> DeployFailed:
    """Puts everything back, and says how that went."""
    reason = _reason(error)
    begun = bool(undo.steps)
    if begun:
        tell(f"{current} failed: putting back what was changed")
    left = undo.run(tell)
    if left:
        after = f"These steps back failed, so look at the stack: {'; '.join(left)}."
    else:
        after = "Everything that had been changed was put back." if begun else "Nothing was changed."
    return DeployFailed(f"The stack {context.stack} was not deployed: {current} failed: {reason} {after}")


def _reason(error: BaseException) -> str:
    """Why, as the end of a sentence."""
    text = "it was interrupted" if isinstance(error, KeyboardInterrupt) else reason_of(error)
    return text if text.endswith(".") else f"{text}."
