"""How an environment writes its function's log: the platform's lines, and which of the function's are kept."""

from __future__ import annotations

from collections.abc import Callable

from thaw.environment.settings import FunctionSettings
from thaw.observe.platform_log import ApplicationFilter, PlatformLog, Subject, platform_log


def platform_lines(settings: FunctionSettings) -> PlatformLog:
    """What the platform says, in the function's format."""
    subject = Subject(
        function_name=settings.function_name,
        version=settings.version,
        label=settings.runtime.label,
        version_arn=settings.runtime.version_arn,
        initialization_type=settings.initialization_type,
        memory_mib=settings.memory_mib,
    )
    return platform_log(subject, settings.logging.log_format, settings.logging.system_level)


def application_filter(settings: FunctionSettings) -> Callable[[bytes], bool] | None:
    """Which of the function's own lines are kept; None: all."""
    logging = settings.logging
    return ApplicationFilter(logging.application_level) if logging.log_format == "JSON" else None
