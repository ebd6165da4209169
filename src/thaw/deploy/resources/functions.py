"""AWS::Lambda::Function."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaw.deploy import ownership
from thaw.deploy.asking import download, found, settled
from thaw.deploy.change import Action, Change, Context, Difference, Undo, claim, differences
from thaw.deploy.code import BUCKET, inline_package
from thaw.deploy.intrinsics import Attributes
from thaw.deploy.resources import function_extras
from thaw.deploy.shapes import fitted
from thaw.deploy.template import Declared
from thaw.errors import TemplateError

# CloudFormation's name where it is not the API's.
_RENAMED = {"KmsKeyArn": "KMSKeyArn"}
_NOT_SETTINGS = frozenset(("FunctionName", "Code", "Tags", "Architectures", "PackageType", *function_extras.NAMES))
# What a setting is where a template does not say; a setting that leaves the template goes back to this.
_DEFAULTS: Mapping[str, Any] = {
    "Description": "",
    "MemorySize": 128,
    "Timeout": 3,
    "Environment": {"Variables": {}},
    "Layers": [],
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
    "DeadLetterConfig": {"TargetArn": ""},
    "TracingConfig": {"Mode": "PassThrough"},
    "KMSKeyArn": "",
    "EphemeralStorage": {"Size": 512},
    "SnapStart": {"ApplyOn": "None"},
    "FileSystemConfigs": [],
}
FUNCTION = "function"
"""How a function itself is claimed."""
_IMAGES = "{where} is a container image, which this server does not run: make it a zip (PackageType: Zip)."


@dataclass(frozen=True, slots=True)
class Wanted:
    """A function as the template wants it: `settings` complete, `package` or `source` (in S3) of its code."""

    name: str
    settings: Mapping[str, Any]
    architectures: list[str]
    package: bytes | None
    source: Mapping[str, str]
    tags: Mapping[str, str]
    extras: Mapping[str, Any]

    @property
    def code(self) -> dict[str, Any]:
        """Member Code of CreateFunction, and the arguments of UpdateFunctionCode."""
        return dict(self.source) if self.package is None else {"ZipFile": self.package}

    @property
    def source_text(self) -> str:
        """What the tag remembers of code in S3; empty for code beside the template."""
        return "/".join(self.source.values())


def plan(context: Context, one: Declared, properties: Mapping[str, Any]) -> Change:
    """Compares the function with the server's."""
    wanted = _wanted(context, one, properties)
    there = found(context.client.get_function, FunctionName=wanted.name)
    title = f"function {wanted.name}"
    claims = claim(wanted.name, FUNCTION)
    if there is None:
        shown = tuple(Difference(name, None, value) for name, value in _shown(wanted, one.properties).items())
        return Change(
            one.logical_id,
            title,
            Action.CREATE,
            _attributes(context, wanted),
            shown,
            lambda undo: _create(context, one, wanted, undo),
            claims,
        )
    _check_owner(context, one, wanted, there.get("Tags") or {})
    changes = _differences(context, one, wanted, there)
    if not changes:
        return Change(one.logical_id, title, Action.KEEP, _attributes(context, wanted), claims=claims)

    def work(undo: Undo) -> Attributes:
        return _update(context, one, wanted, there, undo)

    return Change(one.logical_id, title, Action.UPDATE, _attributes(context, wanted), changes, work, claims)


# --- what the template wants ------------------------------------------------------------------------------------------


def _wanted(context: Context, one: Declared, properties: Mapping[str, Any]) -> Wanted:
    given = {_RENAMED.get(name, name): value for name, value in properties.items()}
    if given.get("PackageType", "Zip") != "Zip" or "ImageUri" in (given.get("Code") or {}):
        raise TemplateError(_IMAGES.format(where=one.logical_id))
    name = str(given.get("FunctionName") or ownership.function_name(context.stack, one.logical_id))
    settings = {key: value for key, value in given.items() if key not in _NOT_SETTINGS}
    fit = fitted(context.client, "CreateFunction", settings, one.logical_id)
    package, source = _code(context, one, given)
    return Wanted(
        name=name,
        settings=_completed(name, fit),
        architectures=[str(item) for item in given.get("Architectures") or ("x86_64",)],
        package=package,
        source=source,
        tags=_tags(one, given.get("Tags")),
        extras=function_extras.wanted(context.client, one, given),
    )


def _completed(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings, as GetFunctionConfiguration would show them."""
    complete: dict[str, Any] = {}
    for key, default in _DEFAULTS.items():
        value = settings.get(key, default)
        complete[key] = {**default, **value} if isinstance(default, Mapping) and isinstance(value, Mapping) else value
    complete |= {key: value for key, value in settings.items() if key not in _DEFAULTS}
    complete["LoggingConfig"] = _logging(name, settings.get("LoggingConfig") or {})
    return complete


def _logging(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"} if given.get("LogFormat") == "JSON" else {}
    return {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}", **levels, **given}


def _tags(one: Declared, tags: Any) -> dict[str, str]:
    """Tags come as a list of Key and Value, or as a mapping."""
    if isinstance(tags, Mapping):
        return {str(key): str(value) for key, value in tags.items()}
    try:
        return {str(tag["Key"]): str(tag["Value"]) for tag in tags or ()}
    except (TypeError, KeyError):
        raise TemplateError(f"{one.logical_id}.Tags must be a list of Key and Value: correct it there.") from None


def _code(context: Context, one: Declared, given: Mapping[str, Any]) -> tuple[bytes | None, dict[str, str]]:
    code = given.get("Code")
    if not isinstance(code, Mapping) or not code:
        raise TemplateError(f"{one.logical_id} has no code: add Code (CodeUri in SAM), a path beside the template.")
    if "ZipFile" in code:
        return inline_package(str(code["ZipFile"]), str(given.get("Runtime", ""))), {}
    if code.get("S3Bucket") == BUCKET:
        return context.codes[str(code["S3Key"])].package, {}
    source = fitted(context.client, "CreateFunction", {"Code": dict(code)}, one.logical_id)["Code"]
    return None, {name: source[name] for name in ("S3Bucket", "S3Key", "S3ObjectVersion") if name in source}


# --- what the server has ----------------------------------------------------------------------------------------------


def _check_owner(context: Context, one: Declared, wanted: Wanted, tags: Mapping[str, str]) -> None:
    owner = tags.get(ownership.STACK)
    if owner not in (None, context.stack):
        raise TemplateError(
            f"{one.logical_id} is to be the function {wanted.name}, which belongs to the stack {owner}: "
            "give it another FunctionName, or deploy under that --stack-name."
        )


def _present(there: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a function in the form in which `Wanted` has them."""
    configuration = there["Configuration"]
    shown = {name: configuration[name] for name in names if name in configuration}
    shown["Layers"] = [layer["Arn"] for layer in configuration.get("Layers") or ()]
    vpc = configuration.get("VpcConfig") or {}
    shown["VpcConfig"] = {name: vpc.get(name) or [] for name in ("SubnetIds", "SecurityGroupIds")}
    snap_start = configuration.get("SnapStart") or {}
    shown["SnapStart"] = {"ApplyOn": snap_start.get("ApplyOn", "None")}
    environment = configuration.get("Environment") or {}
    shown["Environment"] = {"Variables": environment.get("Variables") or {}}
    return _completed(configuration["FunctionName"], shown)


def _differences(context: Context, one: Declared, wanted: Wanted, there: Mapping[str, Any]) -> tuple[Difference, ...]:
    configuration = there["Configuration"]
    tags = there.get("Tags") or {}
    changes = differences(_present(there, wanted.settings), wanted.settings)
    changes += differences(ownership.tags_of_users(tags), wanted.tags, "Tags.")
    if _code_differs(wanted, there):
        changes += (Difference("Code", configuration["CodeSha256"][:12], _digest(wanted)[:12]),)
    architectures = configuration.get("Architectures") or ["x86_64"]
    if architectures != wanted.architectures:
        changes += (Difference("Architectures", architectures, wanted.architectures),)
    if tags.get(ownership.STACK) is None:
        changes += (Difference("Stack", "none: it was made otherwise", context.stack),)
    elif tags.get(ownership.LOGICAL_ID) != _logical_id(one):
        changes += (Difference("Logical id", tags.get(ownership.LOGICAL_ID), _logical_id(one)),)
    return changes + function_extras.differences(context.client, wanted.name, there, wanted.extras)


def _code_differs(wanted: Wanted, there: Mapping[str, Any]) -> bool:
    if wanted.package is None:
        return (there.get("Tags") or {}).get(ownership.CODE) != wanted.source_text
    return bool(there["Configuration"]["CodeSha256"] != _digest(wanted))


def _digest(wanted: Wanted) -> str:
    """CodeSha256 of the package, or the place of code in S3."""
    if wanted.package is None:
        return wanted.source_text
    return base64.b64encode(hashlib.sha256(wanted.package).digest()).decode()


def _shown(wanted: Wanted, declared: Mapping[str, Any]) -> dict[str, Any]:
    """What a new function is shown with: what the template says, not the defaults."""
    size = wanted.source_text if wanted.package is None else f"{len(wanted.package) / 1024:,.1f} KiB"
    names = {_RENAMED.get(name, name) for name in declared}
    given = {name: value for name, value in wanted.settings.items() if name in names}
    return {name: value for name, value in given.items() if name != "Role"} | {"Code": size}


def _attributes(context: Context, wanted: Wanted) -> Attributes:
    arn = context.place.arn("lambda", f"function:{wanted.name}")
    applies = wanted.settings["SnapStart"]["ApplyOn"]
    optimized = "On" if applies == "PublishedVersions" else "Off"
    return {"": wanted.name, "Arn": arn, "SnapStartResponse.ApplyOn": applies,
            "SnapStartResponse.OptimizationStatus": optimized}  # fmt: skip


# --- changing it ------------------------------------------------------------------------------------------------------


def _own_tags(context: Context, one: Declared, wanted: Wanted) -> dict[str, str]:
    code = {ownership.CODE: wanted.source_text} if wanted.package is None else {}
    return {ownership.STACK: context.stack, ownership.LOGICAL_ID: _logical_id(one), **code}


def _logical_id(one: Declared) -> str:
    return ownership.Owned("function", "", one.logical_id, one.retained).text


def _create(context: Context, one: Declared, wanted: Wanted, undo: Undo) -> Attributes:
    client = context.client
    empty: tuple[Any, ...] = ("", [], {})
    settings = {
        name: value for name, value in wanted.settings.items() if value not in empty and value != _DEFAULTS.get(name)
    }
    client.create_function(
        FunctionName=wanted.name, Code=wanted.code, Architectures=wanted.architectures,
        Tags={**wanted.tags, **_own_tags(context, one, wanted)}, **settings,
    )  # fmt: skip
    undo.push(f"deleting function {wanted.name}", lambda: client.delete_function(FunctionName=wanted.name))
    settled(client, wanted.name)
    function_extras.apply(client, wanted.name, {}, wanted.extras, undo)
    return _attributes(context, wanted)


def _update(context: Context, one: Declared, wanted: Wanted, there: Mapping[str, Any], undo: Undo) -> Attributes:
    if (
        _code_differs(wanted, there)
        or (there["Configuration"].get("Architectures") or ["x86_64"]) != wanted.architectures
    ):
        _update_code(context, wanted, there, undo)
    before = _present(there, wanted.settings)
    if before != wanted.settings:
        _update_settings(context, wanted, before, undo)
    _update_tags(context, one, wanted, there, undo)
    function_extras.apply(context.client, wanted.name, there, wanted.extras, undo)
    return _attributes(context, wanted)


def _update_code(context: Context, wanted: Wanted, there: Mapping[str, Any], undo: Undo) -> None:
    client, configuration = context.client, there["Configuration"]
    package = download(there["Code"]["Location"])
    architectures = configuration.get("Architectures") or ["x86_64"]

    def put_back() -> None:
        client.update_function_code(FunctionName=wanted.name, ZipFile=package, Architectures=architectures)
        settled(client, wanted.name)

    undo.push(f"putting back the code of function {wanted.name}", put_back)
    client.update_function_code(FunctionName=wanted.name, Architectures=wanted.architectures, **wanted.code)
    settled(client, wanted.name)


def _update_settings(context: Context, wanted: Wanted, before: Mapping[str, Any], undo: Undo) -> None:
    client = context.client
    new = {name: value for name, value in wanted.settings.items() if before.get(name) != value}
    old = {name: before.get(name, "") for name in new}

    def put_back() -> None:
        client.update_function_configuration(FunctionName=wanted.name, **old)
        settled(client, wanted.name)

    undo.push(f"putting back the settings of function {wanted.name}", put_back)
    client.update_function_configuration(FunctionName=wanted.name, **new)
    settled(client, wanted.name)


def _update_tags(context: Context, one: Declared, wanted: Wanted, there: Mapping[str, Any], undo: Undo) -> None:
    client, arn = context.client, there["Configuration"]["FunctionArn"]
    before: dict[str, str] = dict(there.get("Tags") or {})
    after = {**wanted.tags, **_own_tags(context, one, wanted)}
    kept = {key for key in before if key.startswith(ownership.PREFIX) and key != ownership.CODE}
    gone = [key for key in before if key not in after and key not in kept]
    new = {key: value for key, value in after.items() if before.get(key) != value}
    if not gone and not new:
        return

    def put_back() -> None:
        if added := [key for key in new if key not in before]:
            client.untag_resource(Resource=arn, TagKeys=added)
        if old := {key: value for key, value in before.items() if key in gone or key in new}:
            client.tag_resource(Resource=arn, Tags=old)

    undo.push(f"putting back the tags of function {wanted.name}", put_back)
    if gone:
        client.untag_resource(Resource=arn, TagKeys=gone)
    if new:
        client.tag_resource(Resource=arn, Tags=new)
