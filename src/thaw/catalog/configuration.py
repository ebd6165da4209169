"""What the catalog knows of a function: its configurations ($LATEST and the versions) and its aliases."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LATEST = "$LATEST"


def names_version(qualifier: str) -> bool:
    """Whether a qualifier is $LATEST or a number; everything else can only be an alias."""
    return qualifier == LATEST or (qualifier.isascii() and qualifier.isdigit())


# What makes two configurations the same for PublishVersion: everything that the user sets. States, revisions, times
# and snapshots are Lambda's, and the description given to PublishVersion belongs to the version alone.
USER_SETTINGS = (
    "runtime",
    "role",
    "handler",
    "description",
    "timeout",
    "memory_size",
    "ephemeral_storage",
    "environment",
    "architectures",
    "layers",
    "snap_start_apply_on",
    "code_sha256",
    "logging_config",
    "tracing_mode",
    "kms_key_arn",
    "package_type",
    "other_members",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedLayer:
    """A layer version as a function uses it, which it goes on doing when the layer version is deleted.

    `content_key` is the hex SHA-256 of the layer's zip (its object key), `code_size` the zip's bytes.
    """

    arn: str
    code_size: int
    content_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings and the state of $LATEST or of one version; never changed in place.

    Units: `timeout` in seconds, `memory_size` and `ephemeral_storage` in MiB, `code_size` in bytes. `code_sha256` is
    base64 as Lambda shows it, `code_key` the same digest in hex (the object key of the zip). `function_id` is unique
    per created function: one that is deleted and created again under its name has another. `function_arn` is
    unqualified. `last_update_status` None means that the member is absent from responses.
    `settings_digest` is the SHA-256 (hex) of what the user set, code included; a version keeps that of the $LATEST it
    was made from. `layers` are merged into /opt in this order, later ones over earlier ones. `reserved_concurrency`
    (calls at one time; None: no limit of its own) belongs to the function and is filled in by `Catalog.resolve` only.
    `other_members` are members of the API that Thaw keeps and shows but does not act on (for example
    "VpcConfig").
    """

    function_id: str
    function_name: str
    function_arn: str
    version: str = LATEST
    runtime: str | None = None
    role: str = ""
    handler: str | None = None
    description: str = ""
    timeout: int = 3
    memory_size: int = 128
    ephemeral_storage: int = 512
    environment: Mapping[str, str] = field(default_factory=dict)
    architectures: tuple[str, ...] = ("x86_64",)
    layers: tuple[UsedLayer, ...] = ()
    snap_start_apply_on: str = "None"
    code_sha256: str = ""
    code_size: int = 0
    code_key: str = ""
    logging_config: Mapping[str, str] = field(default_factory=dict)
    tracing_mode: str = "PassThrough"
    kms_key_arn: str | None = None
    package_type: str = "Zip"
    other_members: Mapping[str, Any] = field(default_factory=dict)
    revision_id: str = ""
    last_modified: str = ""
    state: str = "Pending"
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: str | None = None
    last_update_status_reason: str | None = None
    last_update_status_reason_code: str | None = None
    optimization_status: str = "Off"
    snapshot_key: str | None = None
    runtime_version_arn: str | None = None
    settings_digest: str = ""
    reserved_concurrency: int | None = None

    @property
    def qualified_arn(self) -> str:
        """The ARN with the version at its end, as ListVersionsByFunction shows it ("…:function:name:$LATEST")."""
        return f"{self.function_arn}:{self.version}"

    @property
    def snap_start(self) -> bool:
        """Whether environments of this configuration are to be clones: a numbered version with SnapStart on."""
        return self.version != LATEST and self.snap_start_apply_on == "PublishedVersions"

    @property
    def log_group(self) -> str:
        """The log group: the one that was set, else "/aws/lambda/<name>"."""
        return self.logging_config.get("LogGroup") or f"/aws/lambda/{self.function_name}"

    @property
    def log_format(self) -> str:
        """ "Text" or "JSON"."""
        return self.logging_config.get("LogFormat", "Text")

    @property
    def environment_key(self) -> tuple[str, str, str]:
        """What a warm environment belongs to: it stays the same when only a state changed."""
        return (self.function_id, self.version, self.settings_digest)

    def digest(self) -> str:
        """Computes `settings_digest`; $LATEST and a version with equal digests are one version for PublishVersion."""
        settings = {name: getattr(self, name) for name in USER_SETTINGS}
        settings["layers"] = [layer.arn for layer in self.layers]
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=dict).encode()).hexdigest()

    def config_sha256(self) -> str:
        """The digest in base64, as the member ConfigSha256 shows it."""
        return base64.b64encode(bytes.fromhex(self.settings_digest)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name that points to a version, and perhaps to a second one for a share (0.0 to 1.0) of the calls."""

    function_name: str
    name: str
    alias_arn: str
    function_version: str
    description: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    revision_id: str = ""
