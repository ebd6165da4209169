"""The ways in which a phase ends."""

from __future__ import annotations

import json
from dataclasses import dataclass

from thaw.environment.failure import Exit, document
from thaw.observe.platform_lines import Ending, timed_out_text

CAUSE_LIMIT = 300
"""Characters of an error's message that a sentence takes over."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The runtime did what was asked; `error_type` is empty, or names what the function itself reported."""

    body: bytes
    error_type: str = ""

    @property
    def ending(self) -> Ending | None:
        """An error that the function reported is not the environment's."""
        return None

    def payload(self, request_id: str, limit_s: float) -> bytes:
        """What the caller receives."""
        return self.body


@dataclass(frozen=True, slots=True)
class Failed:
    """The runtime reported that it cannot go on (`body` is its document), or its process ended (`exit`)."""

    error_type: str
    body: bytes | None
    exit: Exit | None = None

    @property
    def ending(self) -> Ending | None:
        """For REPORT and its siblings."""
        return Ending("error", self.error_type)

    @property
    def summary(self) -> str:
        """A few words for people, with what the document says of the function's own error."""
        if self.exit:
            return self.exit.reason
        who = "an extension" if self.error_type.startswith("Extension.") else "the runtime"
        cause = _cause(self.body or b"", self.error_type)
        return f"{who} reported {self.error_type}" + (f" ({cause})" if cause else "")

    def payload(self, request_id: str, limit_s: float) -> bytes:
        """The document that the runtime posted, else Lambda's for a process that ended."""
        return self.body if self.body is not None else document(self.error_type, self.summary, request_id)


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The phase took longer than its limit."""

    error_type: str = "Sandbox.Timedout"

    @property
    def ending(self) -> Ending | None:
        """For REPORT and its siblings."""
        return Ending("timeout")

    def payload(self, request_id: str, limit_s: float) -> bytes:
        """Lambda's document."""
        return document(self.error_type, timed_out_text(limit_s), request_id)


def _cause(body: bytes, error_type: str) -> str:
    """The error's type, where it is not the reported one, and its message's first line; "" for another document."""
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(found, dict):
        return ""
    kind, message = str(found.get("errorType") or ""), str(found.get("errorMessage") or "").strip()
    line = message.partition("\n")[0][:CAUSE_LIMIT].rstrip(". ")
    return ": ".join(part for part in (kind if kind != error_type else "", line) if part)


Outcome = Answered | Failed | TimedOut
