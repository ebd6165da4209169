"""The platform's own log lines, with Lambda's exact text (tab-separated, durations in milliseconds).

Recorded forms: shared contract notes, section 3; the order of REPORT's fields is that of CloudWatch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from thaw.observe.log_stream import timestamp


@dataclass(frozen=True, slots=True)
class Ending:
    """How a phase ended badly: `status` is "error" or "timeout"; the type goes with "error" only."""

    status: str
    error_type: str | None = None

    def fields(self) -> str:
        """`Status: error`, a tab, `Error Type: X`."""
        kind = f"\tError Type: {self.error_type}" if self.error_type and self.status == "error" else ""
        return f"Status: {self.status}{kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What REPORT says. `init_ms` belongs to the first invocation of a fresh environment, `restore_ms` and
    `billed_restore_ms` to the first of a clone."""

    request_id: str
    duration_ms: float
    memory_mib: int
    max_memory_mib: int
    init_ms: float | None = None
    restore_ms: float | None = None
    billed_restore_ms: int = 0
    ending: Ending | None = None

    @property
    def billed_ms(self) -> int:
        """The duration rounded up, plus what Init (rounded together, since August 2025) or Restore cost."""
        return math.ceil(self.duration_ms + (self.init_ms or 0.0)) + self.billed_restore_ms


def init_start(label: str, version_arn: str) -> str:
    """`label` is for example python:3.13.v12."""
    return f"INIT_START Runtime Version: {label}\tRuntime Version ARN: {version_arn}"


def init_report(duration_ms: float, ending: Ending | None = None, phase: str = "init") -> str:
    """Without `ending`: of an Init phase that is billed by itself (SnapStart, provisioned concurrency)."""
    line = f"INIT_REPORT Init Duration: {duration_ms:.2f} ms"
    return f"{line}\tPhase: {phase}\t{ending.fields()}" if ending else line


def restore_start(label: str, version_arn: str) -> str:
    """As INIT_START, when a clone begins."""
    return f"RESTORE_START Runtime Version: {label}\tRuntime Version ARN: {version_arn}"


def restore_report(duration_ms: float, ending: Ending | None = None) -> str:
    """`ending` where the restore failed or took too long."""
    line = f"RESTORE_REPORT Restore Duration: {duration_ms:.2f} ms"
    return f"{line}\t{ending.fields()}" if ending else line


def start(request_id: str, version: str) -> str:
    """The first line of an invocation."""
    return f"START RequestId: {request_id} Version: {version}"


def end(request_id: str) -> str:
    """The last line but one."""
    return f"END RequestId: {request_id}"


def report(facts: Report) -> str:
    """The last line of an invocation; ends in a tab where it ends well, as Lambda's does."""
    fields = [
        f"REPORT RequestId: {facts.request_id}",
        f"Duration: {facts.duration_ms:.2f} ms",
        f"Billed Duration: {facts.billed_ms} ms",
        f"Memory Size: {facts.memory_mib} MB",
        f"Max Memory Used: {facts.max_memory_mib} MB",
    ]
    if facts.init_ms is not None:
        fields.append(f"Init Duration: {facts.init_ms:.2f} ms")
    if facts.restore_ms is not None:
        fields.append(f"Restore Duration: {facts.restore_ms:.2f} ms")
        fields.append(f"Billed Restore Duration: {facts.billed_restore_ms} ms")
    fields.append(facts.ending.fields() if facts.ending else "")
    return "\t".join(fields)


def extension(name: str, state: str, events: Sequence[str], error_type: str = "") -> str:
    """What became of an extension in Init: `state` is for example Ready."""
    line = f"EXTENSION\tName: {name}\tState: {state}\tEvents: [{', '.join(events)}]"
    return f"{line}\tError Type: {error_type}" if error_type else line


def timed_out_text(limit_s: float) -> str:
    """`Task timed out after 3.00 seconds`"""
    return f"Task timed out after {limit_s:.2f} seconds"


def timed_out(moment: datetime, request_id: str, limit_s: float) -> str:
    """The line that a timeout leaves in the log."""
    return f"{timestamp(moment)} {request_id} {timed_out_text(limit_s)}"


def exited(request_id: str, reason: str, error_type: str) -> list[str]:
    """The two lines of a process that ended; `reason` is for example "Runtime exited with error: exit status 1"."""
    return [f"RequestId: {request_id} Error: {reason}", error_type]
