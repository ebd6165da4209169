"""Every exception that Thaw raises on purpose, as one tree.

::

    ThawError                        str(error) is one sentence: what, why, what to do
    ├── ServiceError                 becomes an AWS wire error: `code` names the exception
    ├── TemplateError                a SAM or CloudFormation template cannot be read, or means nothing here
    ├── DeployFailed                 a stack could not be brought to what its template says
    ├── ConfigurationError           a setting of `thaw serve` or of the command line is wrong
    ├── RuntimeNotFound              no interpreter on this machine serves the asked-for runtime
    ├── CodePackageError             a deployment package cannot be read or unpacked
    ├── SandboxError                 the sandbox of an environment could not be built
    ├── EnvironmentFailure           the function's process ended a phase badly
    │   ├── InitFailed               init/error was posted, or the runtime exited during Init
    │   ├── InitTimedOut             Init took longer than its limit
    │   ├── RestoreHookFailed        an after-restore hook failed, or the runtime exited in Restore
    │   └── RestoreTimedOut          Restore took longer than its limit (10 s)
    ├── EngineError
    │   ├── NotFreezable             a resource of the process cannot be put into a snapshot
    │   ├── FreezeFailed             the dump itself went wrong
    │   ├── RestoreRefused           this machine cannot restore this snapshot (start afresh instead)
    │   └── RestoreFailed            the restorer stopped at a step
    └── StoreError
        ├── ChunkNotFound
        ├── NotAuthentic             a chunk or manifest does not open: altered, swapped or truncated
        ├── StoreFull
        └── StoreUnavailable
"""

from __future__ import annotations


class ThawError(Exception):
    """Base of everything raised on purpose; `str(error)` is a whole sentence for people."""


class ServiceError(ThawError):
    """An error of the Lambda API.

    `code` is the shape's name in the service model (for example "ResourceNotFoundException"); the HTTP
    status comes from that model. `reason` and `type` fill the members "Reason" and "Type" where the
    shape has them.
    """

    def __init__(self, code: str, message: str, *, reason: str | None = None, type: str = "User") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.type = type


class TemplateError(ThawError):
    """A template is missing, malformed, or refers to what is not there; the sentence names the place in it."""


class DeployFailed(ThawError):
    """A change of a stack went wrong on the server; the sentence says at which resource, and what was undone."""


class ConfigurationError(ThawError):
    """A setting is missing, malformed or contradicts another one."""


class RuntimeNotFound(ThawError):
    """No interpreter on this machine serves the runtime that a function asks for."""


class CodePackageError(ThawError):
    """A deployment package is not a zip file that can be unpacked safely."""


class SandboxError(ThawError):
    """A sandbox could not be built; `step` names the system call or file that refused."""

    def __init__(self, message: str, *, step: str = "") -> None:
        super().__init__(message)
        self.step = step


class EnvironmentFailure(ThawError):
    """A phase of an execution environment ended badly.

    `error_type` is Lambda's (for example "Runtime.ExitError") and `payload` the JSON document that the
    caller of an invocation receives; `log_tail` is the end of the log that goes with it, at most 4096 bytes.
    """

    def __init__(self, message: str, *, error_type: str, payload: bytes = b"", log_tail: bytes = b"") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.payload = payload
        self.log_tail = log_tail


class InitFailed(EnvironmentFailure):
    """The runtime posted init/error, or exited before it asked for an invocation."""


class InitTimedOut(EnvironmentFailure):
    """The Init phase took longer than its limit."""


class RestoreHookFailed(EnvironmentFailure):
    """The runtime posted restore/error, or exited between restore/next and invocation/next."""


class RestoreTimedOut(EnvironmentFailure):
    """The Restore phase took longer than its limit."""


class EngineError(ThawError):
    """Base of what freezing and thawing raise."""


class NotFreezable(EngineError):
    """A resource of the process has no way back; the sentence names it and the remedy.

    `resource` and `number` say which, where that helps to find out where it was made: "descriptor", "process" or
    "thread" and its number as the function's process sees it, or "threads".
    """

    def __init__(self, message: str, *, resource: str = "", number: int = 0) -> None:
        super().__init__(message)
        self.resource = resource
        self.number = number


class FreezeFailed(EngineError):
    """The dump went wrong for a reason that is not the function's."""


class RestoreRefused(EngineError):
    """This machine differs from the snapshot's in a way that forbids restoring; start afresh instead."""


class RestoreFailed(EngineError):
    """The restorer stopped: `step` names where and `errno` why (0 where there is none)."""

    def __init__(self, message: str, *, step: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno


class StoreError(ThawError):
    """Base of what chunks, manifests and tiers raise."""


class ChunkNotFound(StoreError):
    """No tier holds the chunk or object that was asked for."""


class NotAuthentic(StoreError):
    """Stored bytes do not open under their key: altered, swapped, truncated, or another key's."""


class StoreFull(StoreError):
    """The medium under a tier has no space left."""


class StoreUnavailable(StoreError):
    """A tier does not answer."""
