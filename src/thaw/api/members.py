"""Members of the API to and from the catalog's Configuration, and Lambda's rules that the model does not state."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from thaw.api.http import without_none
from thaw.api.protocol.model import lambda_model
from thaw.catalog.configuration import LATEST, Alias, Configuration
from thaw.errors import ServiceError

# Limits of ordinary functions; the model's are wider, for managed instances.
_LONGEST_NAME = 64
_LONGEST_TIMEOUT = 900
_MOST_MEMORY = 10_240
_MOST_STORAGE = 10_240
_MOST_ENVIRONMENT = 4096
_SNAP_START_STORAGE = 512
# AWS's own list; this server freezes any runtime, also one that never calls restore/next, where it asks for a call.
_AWS_SNAP_START = re.compile(r"python3\.(1[2-9]|[2-9]\d)|java(1[1-9]|[2-9]\d)|dotnet([89]|\d\d)")

_RESERVED_VARIABLES = frozenset(
    (
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    )
)
# Members that change what a function does and that this server does not carry out: taking them silently would lie.
_REFUSED = {
    "publish_to": "PublishTo",
    "code_signing_config_arn": "CodeSigningConfigArn",
    "image_config": "ImageConfig",
    "file_system_configs": "FileSystemConfigs",
    "tenancy_config": "TenancyConfig",
    "capacity_provider_config": "CapacityProviderConfig",
    "durable_config": "DurableConfig",
    "runtime_config": "RuntimeConfig",
    "accelerator_config": "AcceleratorConfig",
}


def refuse(text: str) -> ServiceError:
    """An InvalidParameterValueException."""
    return ServiceError("InvalidParameterValueException", text)


def check_name(name: str) -> None:
    """Raises InvalidParameterValueException for the name of a new function that is too long."""
    if len(name) > _LONGEST_NAME:
        raise refuse(
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {_LONGEST_NAME}"
        )


def check_supported(request: Any) -> None:
    """Raises InvalidParameterValueException for a member that this server would have to ignore."""
    for attribute, member in _REFUSED.items():
        if getattr(request, attribute, None):
            raise refuse(f"{member} is not supported by this server: leave it out of the request.")


def given_settings(request: Any, logging_before: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a Configuration that a CreateFunction or UpdateFunctionConfiguration request sets, but layers.

    `logging_before` is the LoggingConfig that the function has.
    """
    nested = {
        "environment": request.environment and (request.environment.variables or {}),
        "ephemeral_storage": request.ephemeral_storage and request.ephemeral_storage.size,
        "tracing_mode": request.tracing_config and request.tracing_config.mode,
        "snap_start_apply_on": request.snap_start and (request.snap_start.apply_on or "None"),
        "logging_config": request.logging_config and _logging(request.logging_config, logging_before),
    }
    plain = ("runtime", "role", "handler", "description", "timeout", "memory_size", "kms_key_arn")
    return without_none({**{name: getattr(request, name) for name in plain}, **nested})


def given_others(request: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """`other_members` after a request: VpcConfig and DeadLetterConfig are kept and shown."""
    others = dict(before)
    if request.vpc_config is not None:
        shown = {"SubnetIds": [], "SecurityGroupIds": [], "VpcId": "", "Ipv6AllowedForDualStack": False}
        others["VpcConfig"] = shown | without_none(msgspec.to_builtins(request.vpc_config))
    if request.dead_letter_config is not None:
        others.pop("DeadLetterConfig", None)
        _check_dead_letter(request.dead_letter_config.target_arn)
        if request.dead_letter_config.target_arn:
            others["DeadLetterConfig"] = {"TargetArn": request.dead_letter_config.target_arn}
    return others


def _check_dead_letter(arn: str | None) -> None:
    """Lambda takes queues and topics; this server takes functions too, which it can deliver to by itself."""
    if arn and arn.split(":")[2] not in ("sqs", "sns", "lambda"):
        raise refuse(
            f"The dead-letter target {arn} is neither a queue (SQS), a topic (SNS) nor a function: name one of these."
        )


def _logging(given: Any, before: Mapping[str, str]) -> dict[str, str]:
    """What is not given stays, but the levels, which belong to the format JSON."""
    merged = {"LogFormat": "Text", **before, **without_none(msgspec.to_builtins(given))}
    if merged["LogFormat"] != "JSON" and (given.application_log_level or given.system_log_level):
        raise refuse(
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change '
            'the LogFormat to "JSON" and try again.'
        )
    if merged["LogFormat"] == "JSON":
        return {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", **merged}
    return {name: value for name, value in merged.items() if name not in ("ApplicationLogLevel", "SystemLogLevel")}


def check_rules(configuration: Configuration, *, aws_parity: bool) -> None:
    """Raises what Lambda answers to a configuration that the model admits and Lambda does not.

    `aws_parity` allows SnapStart for the runtimes on AWS's list only, not for every runtime.
    """
    _check_limits(configuration)
    _check_environment(configuration.environment)
    if configuration.package_type != "Zip":
        raise refuse(f"PackageType {configuration.package_type} is not supported by this server: use Zip.")
    if not configuration.runtime or not configuration.handler:
        raise refuse("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    _check_runtime(configuration.runtime)
    if configuration.snap_start_apply_on == "PublishedVersions":
        _check_snap_start(configuration, aws_parity)


def _check_limits(configuration: Configuration) -> None:
    """Limits that are narrower than the model's; Lambda words that of the memory in its own way."""
    for path, value, limit in (
        ("timeout", configuration.timeout, _LONGEST_TIMEOUT),
        ("ephemeralStorage.size", configuration.ephemeral_storage, _MOST_STORAGE),
    ):
        if value > limit:
            raise ServiceError(
                "ValidationException",
                f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: "
                f"Member must have value less than or equal to {limit}",
            )
    if configuration.memory_size > _MOST_MEMORY:
        raise refuse(
            "'MemorySize' value failed to satisfy constraint: "
            f"Member must have value less than or equal to {_MOST_MEMORY}"
        )


def _check_runtime(runtime: str) -> None:
    """Lambda's own check of the runtime: another code and text than for every other enum."""
    known = lambda_model().shapes["Runtime"]["enum"]
    if runtime not in known:
        raise refuse(
            f"Value {runtime} at 'runtime' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(known)}] or be a valid ARN"
        )


def _check_environment(variables: Mapping[str, str]) -> None:
    reserved = sorted(_RESERVED_VARIABLES & variables.keys())
    if reserved:
        raise refuse(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode("utf-8", "replace")) > _MOST_ENVIRONMENT:
        raise refuse(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {measured}"
        )


def _check_snap_start(configuration: Configuration, aws_parity: bool) -> None:
    runtime = str(configuration.runtime)
    if aws_parity and not _AWS_SNAP_START.fullmatch(runtime):
        raise refuse(f"{runtime} is not supported for SnapStart enabled functions.")
    if configuration.ephemeral_storage > _SNAP_START_STORAGE:
        raise refuse(
            f"Ephemeral storage size greater than {_SNAP_START_STORAGE} MB is not supported for SnapStart enabled "
            "functions."
        )


def configuration_document(configuration: Configuration, *, qualified: bool | None = None) -> dict[str, Any]:
    """A FunctionConfiguration as every operation but the lists answers it.

    The ARN is qualified for a version and not for $LATEST, unless `qualified` says otherwise.
    """
    if qualified is None:
        qualified = configuration.version != LATEST
    document = {
        "FunctionName": configuration.function_name,
        "FunctionArn": configuration.qualified_arn if qualified else configuration.function_arn,
        "Runtime": configuration.runtime,
        "Role": configuration.role,
        "Handler": configuration.handler,
        "CodeSize": configuration.code_size,
        "Description": configuration.description,
        "Timeout": configuration.timeout,
        "MemorySize": configuration.memory_size,
        "LastModified": configuration.last_modified,
        "CodeSha256": configuration.code_sha256,
        "Version": configuration.version,
        "Environment": {"Variables": configuration.environment} if configuration.environment else None,
        "KMSKeyArn": configuration.kms_key_arn or None,
        "TracingConfig": {"Mode": configuration.tracing_mode},
        "RevisionId": configuration.revision_id,
        "Layers": [{"Arn": layer.arn, "CodeSize": layer.code_size} for layer in configuration.layers] or None,
        "PackageType": configuration.package_type,
        "Architectures": configuration.architectures,
        "EphemeralStorage": {"Size": configuration.ephemeral_storage},
        "SnapStart": {
            "ApplyOn": configuration.snap_start_apply_on,
            "OptimizationStatus": configuration.optimization_status,
        },
        "LoggingConfig": {"LogFormat": "Text", **configuration.logging_config, "LogGroup": configuration.log_group},
        "ConfigSha256": configuration.config_sha256(),
        **configuration.other_members,
        **_state(configuration),
    }
    return without_none(document)


def _state(configuration: Configuration) -> dict[str, Any]:
    arn = configuration.runtime_version_arn
    return {
        "State": configuration.state,
        "StateReason": configuration.state_reason,
        "StateReasonCode": configuration.state_reason_code,
        "LastUpdateStatus": configuration.last_update_status,
        "LastUpdateStatusReason": configuration.last_update_status_reason,
        "LastUpdateStatusReasonCode": configuration.last_update_status_reason_code,
        "RuntimeVersionConfig": {"RuntimeVersionArn": arn} if arn else None,
    }


def listed_document(configuration: Configuration, *, qualified: bool) -> dict[str, Any]:
    """A FunctionConfiguration as lists answer it: without states."""
    document = configuration_document(configuration, qualified=qualified)
    return {name: value for name, value in document.items() if name not in _state(configuration)}


def alias_document(alias: Alias) -> dict[str, Any]:
    """An AliasConfiguration."""
    return without_none(
        {
            "AliasArn": alias.alias_arn,
            "Name": alias.name,
            "FunctionVersion": alias.function_version,
            "Description": alias.description,
            "RoutingConfig": {"AdditionalVersionWeights": alias.weights} if alias.weights else None,
            "RevisionId": alias.revision_id,
        }
    )
