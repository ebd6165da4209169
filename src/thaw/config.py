"""Settings of one Thaw server: typed, checked once, passed in; nothing reads them at import.

Each setting comes from an environment variable `THAW_<NAME>` (upper case) unless it is passed in::

    settings = read_settings(port=0)          # a free port, the rest from the environment
    settings = read_settings(state_dir=path)  # everything that must survive lives under one folder
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from thaw.errors import ConfigurationError

DEFAULT_L1_BYTES = 10 << 30
OPTIONS = frozenset(
    [
        "state_dir", "host", "port", "region", "account_id", "pool_size", "max_environments", "idle_timeout_s",
        "log_level",
    ]
)  # fmt: skip
"""Settings that are options of `thaw serve`, too."""
SHAPES = {
    "l2_url": "redis://host:port, rediss://host:port, redis+cluster://host:port or unix://path",
    "zone": "1 to 64 letters, digits and hyphens",
    "kms_endpoint": "https://host:port or http://host:port",
    "region": "a region such as us-east-1",
    "account_id": "twelve digits",
    "s3_endpoint": "https://host:port or http://host:port",
    "maven_repository_url": "an address that begins with https://, http:// or file://",
    "log_level": "debug, info, warning or error",
}
"""What the patterns of settings mean."""


def default_state_dir() -> Path:
    """Where a server keeps its state unless told otherwise: the system's place as root, else the user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/thaw")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "thaw"


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _folder_or_bucket(text: str) -> str:
    return text if text.startswith("s3://") else str(_absolute(Path(text)))


def _private_network(text: str) -> str:
    network = IPv4Network(text)
    if network.prefixlen > 24 or not network.is_private:
        raise ValueError("must be a private IPv4 network of at least 256 addresses, such as 10.213.0.0/16")
    return text


def _egress(text: str) -> str:
    if text not in ("guarded", "all"):
        try:
            [IPv4Network(each.strip()) for each in text.split(",")]
        except ValueError:
            raise ValueError('must be "guarded", "all", or IPv4 networks such as 10.0.0.0/8,192.0.2.7/32') from None
    return text


class Settings(BaseSettings):
    """All settings, with their units in the name (`_s` seconds, `_mib` 1024² bytes)."""

    model_config = SettingsConfigDict(env_prefix="THAW_", frozen=True, extra="forbid")

    state_dir: Annotated[Path, AfterValidator(_absolute)] = Field(default_factory=default_state_dir)
    """Folder of the catalog, logs, keys, runtimes and, by default, the origin; made with mode 0700."""
    origin: Annotated[str, BeforeValidator(str), AfterValidator(_folder_or_bucket)] | None = None
    """Where code packages and snapshots are kept (tier L3): a folder, or s3://bucket/prefix?endpoint=https://host for
    any S3-compatible store. None means `state_dir`/origin."""
    l1_bytes: int | None = Field(default=None, ge=0)
    """Bytes of the chunk cache on this worker's disk (tier L1, `state_dir`/l1); 0: none. None means 10 GiB before a
    bucket and none before a folder, which is as near."""
    l2_url: str | None = Field(default=None, pattern=r"^((redis|rediss)(\+cluster)?://|unix://)\S+$")
    """Redis or Valkey server that the workers of a zone share as a chunk cache (tier L2): redis://host:port, or
    redis+cluster://host:port for a cluster. None: no L2."""
    zone: str = Field(default="default", pattern=r"^[A-Za-z0-9-]{1,64}$")
    """Zone of this worker; workers of different zones that share an L2 server keep chunks of their own there."""
    kms_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/\s]+/?$")
    """KMS server for functions with a KMSKeyArn; None: AWS's own, in the region of the key."""

    host: str = "127.0.0.1"
    """Address on which the Lambda API listens."""
    port: int = Field(default=3001, ge=0, le=65535)
    """Its port; 0 takes a free one (the server prints it)."""

    region: str = Field(default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    """Region in every ARN."""
    account_id: str = Field(default="000000000000", pattern=r"^\d{12}$")
    """Account in every ARN."""

    credentials_file: Annotated[Path, AfterValidator(_absolute)] | None = None
    """Access keys that may call the API, as an AWS credentials file (aws_access_key_id, aws_secret_access_key in each
    section); None: anybody may, which is for loopback only."""
    s3_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/\s]+/?$")
    """S3 server from which S3Bucket and S3Key of functions and layers are read; None: code comes as ZipFile only."""

    pool_size: int = Field(default=8, ge=0, le=1024)
    """Empty sandboxes that are kept ready."""
    fork_ahead: bool = True
    """Whether the next clone of a snapshot in use is forked before its call comes; it takes a few MiB meanwhile."""
    max_environments: int = Field(default=1000, ge=1)
    """Execution environments at one time; Lambda's default concurrency of an account is 1000."""
    idle_timeout_s: float = Field(default=300, ge=0)
    """An environment without a call for this long is closed; 0 closes it after each call, so that every call gets a
    fresh one (for demonstrations and measurements)."""

    init_limit_s: float = Field(default=10, gt=0)
    """Limit of an on-demand Init phase (Lambda: 10 s)."""
    snapshot_init_limit_s: float = Field(default=130, gt=0)
    """Limit of init plus before-snapshot hooks at publish (Lambda: 130 s, or the function's timeout if longer)."""
    restore_limit_s: float = Field(default=10, gt=0)
    """Limit of loading the runtime plus after-restore hooks (Lambda: 10 s)."""

    aws_parity: bool = False
    """Whether SnapStart is refused for runtimes that are not on AWS's list (Python 3.12, Java 11, .NET 8 and later); by
    default every runtime may have it."""
    snapshot_idle_s: float = Field(default=14 * 86400, gt=0)
    """A version with a snapshot that nobody called for this long becomes Inactive (Lambda: 14 days)."""
    event_retry_s: float = Field(default=60, ge=0)
    """Pause before the first retry of an asynchronous call that failed; the second takes twice as long (Lambda: one
    and two minutes)."""

    cpu_limit: bool = True
    """Whether MemorySize bounds the processor time as on Lambda (1769 MB = one virtual CPU)."""
    log_limit: int = Field(default=4 << 20, ge=4096)
    """Bytes that one invocation may write to its log."""
    reseed: bool = True
    """Whether clones get fresh seeds for Python's `random` and numpy's global generator before their hooks."""
    network: Annotated[str, AfterValidator(_private_network)] | None = None
    """Private IPv4 network for sandboxes; None picks one that nobody on this machine uses."""
    egress: Annotated[str, AfterValidator(_egress)] = "guarded"
    """Where functions may connect to. "guarded": everywhere but link-local addresses (169.254.0.0/16), at which clouds
    hand out the machine's own credentials; "all": there too; or IPv4 networks with commas between them: only there, so
    name also this machine's address and the name server where functions need them."""

    python_index_url: str | None = None
    """Package index from which the runtime client is installed; None means pip's own configuration."""
    maven_repository_url: str | None = Field(default=None, pattern=r"^(https?|file)://\S+$")
    """Maven repository from which the Java runtime client is fetched directly; None: Maven fetches it, from where its
    own settings say."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least important line that the server itself prints."""

    @property
    def origin_dir(self) -> Path:
        """Folder of the origin, whether set or defaulted; of no meaning where the origin is a bucket."""
        return Path(self.origin) if self.origin is not None else self.state_dir / "origin"

    @property
    def origin_bucket(self) -> str | None:
        """The s3:// URL of the origin; None where it is a folder."""
        return self.origin if self.origin is not None and self.origin.startswith("s3://") else None

    @property
    def l1_capacity(self) -> int:
        """Bytes of the chunk cache on disk, whether set or defaulted."""
        if self.l1_bytes is not None:
            return self.l1_bytes
        return 0 if self.origin_bucket is None else DEFAULT_L1_BYTES


def read_settings(**given: Any) -> Settings:
    """Settings from `given` (None counts as not given) over `THAW_*` variables over the defaults.

    Raises `ConfigurationError` with one sentence that names the variable, the fault and the remedy.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        return f"There is no setting named {name!r}: see `thaw serve --help` for those there are."
    fault = first["msg"].removeprefix("Value error, ").rstrip(".")
    fault = fault[:1].lower() + fault[1:]
    if first["type"] == "string_pattern_mismatch" and name in SHAPES:
        fault = f"must be {SHAPES[name]}"
    option = f" or --{name.replace('_', '-')}" if name in OPTIONS else ""
    return (
        f"The setting {name} is {first['input']!r}, but {fault}: set THAW_{name.upper()}{option} to a value it takes."
    )


def unknown_variables() -> list[str]:
    """A sentence for each variable THAW_... of this process that looks like a setting written wrongly."""
    settings = [name.upper() for name in Settings.model_fields]
    ours = sorted(name for name in os.environ if name.upper().startswith("THAW_"))
    unknown = [(name, rest) for name in ours if (rest := name.upper().removeprefix("THAW_")) not in settings]
    return [
        f"{name} is no setting and was ignored: did you mean THAW_{close[0]}?"
        for name, rest in unknown
        if (close := get_close_matches(rest, settings, 1, 0.6))
    ]
