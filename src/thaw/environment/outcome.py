"""The ways in which a phase ends."""

from __future__ import annotations

from dataclasses import dataclass

from thaw.environment.failure import Exit, document
from thaw.observe.platform_lines import Ending, timed_out_text


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
        """A few words for people."""
        who = "an extension" if self.error_type.startswith("Extension.") else "the runtime"
        return self.exit.reason if self.exit else f"{who} reported {self.error_type}"

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


Outcome = Answered | Failed | TimedOut
