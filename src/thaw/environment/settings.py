"""What an execution environment is told: the version it serves, and what the whole worker allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal, Protocol

from thaw.environment.egress import Egress
from thaw.environment.runtime_api.extensions import FrozenExtension

# Lambda's values of AWS_LAMBDA_INITIALIZATION_TYPE.
InitializationType = Literal["on-demand", "snap-start", "provisioned-concurrency"]

# The request of the Runtime API in which a process was frozen; runtimes that know no restore/next wait in the other.
WaitsIn = Literal["restore/next", "invocation/next"]

# Whether this machine lets packets through: without it functions reach the machine but nothing behind it.
FORWARDING_SWITCH = Path("/proc/sys/net/ipv4/ip_forward")


class RuntimeMount(Protocol):
    """A folder or file of the worker that a runtime needs inside the sandbox, read-only."""

    @property
    def source(self) -> Path: ...

    @property
    def target(self) -> str: ...


class LanguageRuntime(Protocol):
    """The part of a runtime that an environment uses; `thaw.runtimes.Runtime` has it."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def mounts(self) -> Iterable[RuntimeMount]: ...

    @property
    def argv(self) -> tuple[str, ...]: ...

    @property
    def variables(self) -> Mapping[str, str]: ...

    @property
    def version_arn(self) -> str: ...

    @property
    def label(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """AWS credentials handed to a function; the default is a stand-in that local services accept."""

    access_key_id: str = "ASIATHAW000000000000"
    secret_access_key: str = "thaw"
    session_token: str = "thaw"
    lifetime_s: int = 12 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    """Lambda's LoggingConfig: "Text" or "JSON"; the levels count with JSON only."""

    log_format: str = "Text"
    application_level: str = "INFO"
    system_level: str = "INFO"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSettings:
    """All that an environment needs to know of one published version (or of $LATEST).

    `timeout_s` bounds one invocation; `memory_mib` and `ephemeral_mib` are Lambda's MemorySize and
    EphemeralStorage. `task` is the unpacked code and `layers` the merged layers: both are mounted
    read-only. `credentials_token` is empty for a fresh environment (one is then minted); a clone gets
    the token that its snapshot was taken with, because the frozen process keeps using it, and `waits_in`
    says where that process waits, `extensions` which of them were frozen with it, and `is_tree`
    whether other processes were.
    """

    function_name: str
    version: str
    function_arn: str
    handler: str
    timeout_s: float
    memory_mib: int
    ephemeral_mib: int
    variables: Mapping[str, str]
    region: str
    account_id: str
    initialization_type: InitializationType
    task: Path
    layers: Path | None
    runtime: LanguageRuntime
    log_group: str
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    credentials: Credentials = field(default_factory=Credentials)
    credentials_token: str = ""
    waits_in: WaitsIn = "restore/next"
    extensions: tuple[FrozenExtension, ...] = ()
    is_tree: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What one server sets for all of its sandboxes.

    `subnet` is where the sandboxes' addresses come from (None: a range that is free), `egress` where functions may
    connect to.
    `pool_size` ready sandboxes are kept; `cpu_limit` applies Lambda's 1769 MiB = one vCPU rule;
    `process_limit` is Lambda's 1024 processes and threads; `log_limit` bounds the bytes that one
    invocation may write to its log.
    """

    pool_size: int = 8
    cpu_limit: bool = True
    network: bool = True
    subnet: IPv4Network | None = None
    egress: Egress = field(default_factory=Egress)
    process_limit: int = 1024
    log_limit: int = 4 << 20
