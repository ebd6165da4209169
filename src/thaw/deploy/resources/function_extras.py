"""Settings of functions that have operations of their own: reserved concurrency, recursion, runtime updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thaw.deploy.change import Difference, Undo
from thaw.deploy.shapes import fitted
from thaw.deploy.template import Declared
from thaw.errors import TemplateError

_RESERVED, _RECURSION, _RUNTIME = "ReservedConcurrentExecutions", "RecursiveLoop", "RuntimeManagementConfig"
NAMES = (_RESERVED, _RECURSION, _RUNTIME, "CodeSigningConfigArn")
_DEFAULTS: Mapping[str, Any] = {_RESERVED: None, _RECURSION: "Terminate", _RUNTIME: {"UpdateRuntimeOn": "Auto"}}


def wanted(client: Any, one: Declared, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a template wants of them. Raises TemplateError for what it cannot have."""
    if given.get("CodeSigningConfigArn"):
        raise TemplateError(f"{one.logical_id}.CodeSigningConfigArn: this server checks no signatures: take it out.")
    values = {name: given[name] for name in (_RESERVED, _RECURSION) if given.get(name) is not None}
    fit: dict[str, Any] = {}
    if _RESERVED in values:
        fit |= fitted(client, "PutFunctionConcurrency", {"ReservedConcurrentExecutions": values[_RESERVED]}, one.place)
    if _RECURSION in values:
        fit |= fitted(client, "PutFunctionRecursionConfig", {"RecursiveLoop": values[_RECURSION]}, one.place)
    if given.get(_RUNTIME):
        fit[_RUNTIME] = fitted(client, "PutRuntimeManagementConfig", given[_RUNTIME], f"{one.place}.{_RUNTIME}")
    return {name: fit.get(name, default) for name, default in _DEFAULTS.items()}


def _present(client: Any, name: str, there: Mapping[str, Any]) -> dict[str, Any]:
    """What a function has; `there` is GetFunction's answer, empty for a function that was made just now."""
    if not there:
        return dict(_DEFAULTS)
    runtime = client.get_runtime_management_config(FunctionName=name)
    return {
        _RESERVED: (there.get("Concurrency") or {}).get(_RESERVED),
        _RECURSION: client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"],
        _RUNTIME: {
            key: runtime[key] for key in ("UpdateRuntimeOn", "RuntimeVersionArn") if runtime.get(key) is not None
        },
    }


def differences(client: Any, name: str, there: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What differs from the function."""
    before = _present(client, name, there)
    return tuple(Difference(key, before[key], after[key]) for key in _DEFAULTS if before[key] != after[key])


def apply(client: Any, name: str, there: Mapping[str, Any], after: Mapping[str, Any], undo: Undo) -> None:
    """Brings the function to `after`."""
    before = _present(client, name, there)
    for key in _DEFAULTS:
        if before[key] != after[key]:
            old = before[key]
            undo.push(f"putting back {key} of function {name}", lambda key=key, old=old: _put(client, name, key, old))  # type: ignore[misc]
            _put(client, name, key, after[key])


def _put(client: Any, name: str, key: str, value: Any) -> None:
    if key == _RECURSION:
        client.put_function_recursion_config(FunctionName=name, RecursiveLoop=value)
    elif key == _RUNTIME:
        client.put_runtime_management_config(FunctionName=name, **value)
    elif value is None:
        client.delete_function_concurrency(FunctionName=name)
    else:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=value)
