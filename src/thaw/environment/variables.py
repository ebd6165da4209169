"""The environment variables of a function's process, as on Lambda."""

from __future__ import annotations

from thaw.environment.settings import FunctionSettings

RUNTIME_API = "127.0.0.1:9001"

# Lambda refuses these in a function's configuration; set by somebody all the same, ours win.
_OF_RUNTIME = {
    "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "_HANDLER",
}  # fmt: skip
_PATH = "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"
_LIBRARY_PATH = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"


def function_variables(settings: FunctionSettings, token: str, log_stream: str) -> dict[str, str]:
    """All variables: general ones, then the runtime's, then the user's, then those that only the platform sets.

    A SnapStart function gets no keys but the address of the credentials endpoint and the token for it, and no log
    stream name, because its process outlives both.
    """
    return {
        **_general(),
        **settings.runtime.variables,
        **settings.variables,
        **_reserved(settings),
        **_per_start(settings, token, log_stream),
    }


def extension_variables(settings: FunctionSettings, token: str, log_stream: str) -> dict[str, str]:
    """The variables of an external extension: the function's without those of its runtime (Lambda's developer guide on
    the Extensions API)."""
    variables = function_variables(settings, token, log_stream)
    runtime_only = _OF_RUNTIME | settings.runtime.variables.keys() - settings.variables.keys()
    return {name: value for name, value in variables.items() if name not in runtime_only}


def _general() -> dict[str, str]:
    return {
        "LANG": "en_US.UTF-8",
        "PATH": _PATH,
        "LD_LIBRARY_PATH": _LIBRARY_PATH,
        "TZ": ":UTC",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
    }


def _reserved(settings: FunctionSettings) -> dict[str, str]:
    return {
        "_HANDLER": settings.handler,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_REGION": settings.region,
        **_execution_environment(settings),
        "AWS_LAMBDA_FUNCTION_NAME": settings.function_name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings.memory_mib),
        "AWS_LAMBDA_FUNCTION_VERSION": settings.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": settings.initialization_type,
        "AWS_LAMBDA_RUNTIME_API": RUNTIME_API,
        **_logging(settings),
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
    }


def _execution_environment(settings: FunctionSettings) -> dict[str, str]:
    """Lambda does not set it for runtimes that the function brings along."""
    name = settings.runtime.name
    return {} if name.startswith("provided.") else {"AWS_EXECUTION_ENV": f"AWS_Lambda_{name}"}


def _logging(settings: FunctionSettings) -> dict[str, str]:
    """Runtimes write their own part of the log in the format JSON where these say so; for Text there are none."""
    if settings.logging.log_format != "JSON":
        return {}
    return {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": settings.logging.application_level}


def _per_start(settings: FunctionSettings, token: str, log_stream: str) -> dict[str, str]:
    if settings.initialization_type == "snap-start":
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{RUNTIME_API}/2021-04-23/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": token,
        }
    held = settings.credentials
    return {
        "AWS_ACCESS_KEY_ID": held.access_key_id,
        "AWS_SECRET_ACCESS_KEY": held.secret_access_key,
        "AWS_SESSION_TOKEN": held.session_token,
        "AWS_LAMBDA_LOG_GROUP_NAME": settings.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
    }
