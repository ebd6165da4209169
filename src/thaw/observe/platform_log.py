"""What the platform itself says in a function's log, in the format that the function's LoggingConfig asks for.

Text is Lambda's oldest form (`platform_lines`). JSON is one object a line, `{"time", "type", "record"}`, in the shapes
of the Telemetry API's events (schema 2025-01-29), filtered by the function's SystemLogLevel; which event has which
level is from Lambda's developer guide, "System log level event mapping".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from thaw.observe import platform_lines as text
from thaw.observe.log_stream import timestamp
from thaw.observe.platform_lines import Ending, Report

# Levels of applications' logs and of the platform's, least important first.
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_SUCCESS = "success"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Of whom the lines speak: `label` is for example python:3.13.v12, `memory_mib` the function's memory."""

    function_name: str
    version: str
    label: str
    version_arn: str
    initialization_type: str
    memory_mib: int


class PlatformLog(Protocol):
    """The lines of each moment; none where the format or the level has nothing to say of it."""

    def init_start(self) -> list[bytes]: ...

    def init_report(self, duration_ms: float, ending: Ending | None = None, *, again: bool = False) -> list[bytes]:
        """The end of Init; `again` where it was repeated as a part of a call."""

    def restore_start(self) -> list[bytes]: ...

    def restore_report(self, duration_ms: float, ending: Ending | None = None) -> list[bytes]: ...

    def extension(self, name: str, state: str, events: Sequence[str], error_type: str = "") -> list[bytes]: ...

    def start(self, request_id: str) -> list[bytes]: ...

    def timed_out(self, request_id: str, limit_s: float) -> list[bytes]: ...

    def exited(self, request_id: str, reason: str, error_type: str) -> list[bytes]: ...

    def finished(self, report: Report, produced_bytes: int) -> list[bytes]:
        """The end of a call whose response has `produced_bytes`."""


class TextLog:
    """The format "Text"."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def init_start(self) -> list[bytes]:
        """INIT_START."""
        return _encoded(text.init_start(self._subject.label, self._subject.version_arn))

    def init_report(self, duration_ms: float, ending: Ending | None = None, *, again: bool = False) -> list[bytes]:
        """INIT_REPORT; an Init on demand that went well is told by the REPORT of its call."""
        if ending is None and self._subject.initialization_type == "on-demand":
            return []
        return _encoded(text.init_report(duration_ms, ending, "invoke" if again else "init"))

    def restore_start(self) -> list[bytes]:
        """RESTORE_START."""
        return _encoded(text.restore_start(self._subject.label, self._subject.version_arn))

    def restore_report(self, duration_ms: float, ending: Ending | None = None) -> list[bytes]:
        """RESTORE_REPORT."""
        return _encoded(text.restore_report(duration_ms, ending))

    def extension(self, name: str, state: str, events: Sequence[str], error_type: str = "") -> list[bytes]:
        """EXTENSION."""
        return _encoded(text.extension(name, state, events, error_type))

    def start(self, request_id: str) -> list[bytes]:
        """START."""
        return _encoded(text.start(request_id, self._subject.version))

    def timed_out(self, request_id: str, limit_s: float) -> list[bytes]:
        """The line "Task timed out"."""
        return _encoded(text.timed_out(datetime.now(UTC), request_id, limit_s))

    def exited(self, request_id: str, reason: str, error_type: str) -> list[bytes]:
        """How the process ended."""
        return _encoded(*text.exited(request_id, reason, error_type))

    def finished(self, report: Report, produced_bytes: int) -> list[bytes]:
        """END and REPORT."""
        return _encoded(text.end(report.request_id), text.report(report))


class JsonLog:
    """The format "JSON"; events below `level` are left out."""

    def __init__(self, subject: Subject, level: str) -> None:
        self._subject = subject
        self._least = LEVELS.index(level)

    def init_start(self) -> list[bytes]:
        """platform.initStart."""
        subject = self._subject
        kinds = {"initializationType": subject.initialization_type, "phase": self._phase()}
        return self._event("INFO", "initStart", {**kinds, **self._named()})

    def init_report(self, duration_ms: float, ending: Ending | None = None, *, again: bool = False) -> list[bytes]:
        """platform.initRuntimeDone and platform.initReport."""
        on_demand = self._subject.initialization_type == "on-demand"
        kinds = {
            "initializationType": self._subject.initialization_type,
            "phase": "invoke" if again else self._phase(),
            **_outcome(ending),
        }
        done = self._event(_level(ending, "DEBUG"), "initRuntimeDone", kinds)
        metrics = {"durationMs": round(duration_ms, 3)}
        level = _level(ending, "DEBUG" if on_demand else "INFO")
        return done + self._event(level, "initReport", {**kinds, "metrics": metrics})

    def restore_start(self) -> list[bytes]:
        """platform.restoreStart."""
        return self._event("INFO", "restoreStart", self._named())

    def restore_report(self, duration_ms: float, ending: Ending | None = None) -> list[bytes]:
        """platform.restoreRuntimeDone and platform.restoreReport."""
        outcome = _outcome(ending)
        done = self._event(_level(ending, "DEBUG"), "restoreRuntimeDone", outcome)
        metrics = {"durationMs": round(duration_ms, 3)}
        return done + self._event(_level(ending, "INFO"), "restoreReport", {**outcome, "metrics": metrics})

    def extension(self, name: str, state: str, events: Sequence[str], error_type: str = "") -> list[bytes]:
        """platform.extension."""
        record = {"name": name, "state": state, "events": list(events)}
        level = "WARN" if error_type else "INFO"
        return self._event(level, "extension", {**record, **({"errorType": error_type} if error_type else {})})

    def start(self, request_id: str) -> list[bytes]:
        """platform.start."""
        return self._event("INFO", "start", {"requestId": request_id, "version": self._subject.version})

    def timed_out(self, request_id: str, limit_s: float) -> list[bytes]:
        """The status of platform.report tells it."""
        return []

    def exited(self, request_id: str, reason: str, error_type: str) -> list[bytes]:
        """Status and errorType of platform.report tell it."""
        return []

    def finished(self, report: Report, produced_bytes: int) -> list[bytes]:
        """platform.runtimeDone and platform.report."""
        call = {"requestId": report.request_id, **_outcome(report.ending)}
        done = {"durationMs": round(report.duration_ms, 3), "producedBytes": produced_bytes}
        of_start = {"initDurationMs": report.init_ms, "restoreDurationMs": report.restore_ms}
        metrics = {
            "durationMs": round(report.duration_ms, 3),
            "billedDurationMs": report.billed_ms,
            "memorySizeMB": report.memory_mib,
            "maxMemoryUsedMB": report.max_memory_mib,
            **{name: round(value, 3) for name, value in of_start.items() if value is not None},
        }
        if report.restore_ms is not None:
            metrics["billedRestoreDurationMs"] = report.billed_restore_ms
        return [
            *self._event(_level(report.ending, "DEBUG"), "runtimeDone", {**call, "metrics": done}),
            *self._event(_level(report.ending, "INFO"), "report", {**call, "metrics": metrics}),
        ]

    def _phase(self) -> str:
        return "snap-start" if self._subject.initialization_type == "snap-start" else "init"

    def _named(self) -> dict[str, Any]:
        subject = self._subject
        return {
            "runtimeVersion": subject.label,
            "runtimeVersionArn": subject.version_arn,
            "functionName": subject.function_name,
            "functionVersion": subject.version,
            "instanceMaxMemory": subject.memory_mib << 20,
        }

    def _event(self, level: str, kind: str, record: Mapping[str, Any]) -> list[bytes]:
        if LEVELS.index(level) < self._least:
            return []
        event = {"time": timestamp(datetime.now(UTC)), "type": f"platform.{kind}", "record": record}
        return [msgspec.json.encode(event)]


def platform_log(subject: Subject, log_format: str, system_log_level: str) -> PlatformLog:
    """The lines of a function with that LogFormat and SystemLogLevel."""
    return JsonLog(subject, system_log_level) if log_format == "JSON" else TextLog(subject)


class ApplicationFilter:
    """Which lines of a function go into its log, by its ApplicationLogLevel.

    Only lines that are JSON objects with a `level` can be told apart; all others stay (Lambda's developer guide,
    "Log-level filtering").
    """

    def __init__(self, level: str) -> None:
        self._least = LEVELS.index(level)

    def __call__(self, line: bytes) -> bool:
        """Whether a line is important enough."""
        if not line.startswith(b"{"):
            return True
        try:
            level = msgspec.json.decode(line, type=_Levelled).level.upper()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return True
        level = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(level, level)
        return level not in LEVELS or LEVELS.index(level) >= self._least


class _Levelled(msgspec.Struct):
    level: str


def _encoded(*lines: str) -> list[bytes]:
    return [line.encode() for line in lines]


def _outcome(ending: Ending | None) -> dict[str, str]:
    """`status` and `errorType` of an event."""
    if ending is None:
        return {"status": _SUCCESS}
    error = {"errorType": ending.error_type} if ending.error_type and ending.status == "error" else {}
    return {"status": ending.status, **error}


def _level(ending: Ending | None, otherwise: str) -> str:
    """What does not end well is a warning."""
    return otherwise if ending is None else "WARN"
