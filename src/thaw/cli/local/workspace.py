"""Functions and layers of a template on a server that lives for one command, in a folder that goes with it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.errors import TemplateError

if TYPE_CHECKING:
    from thaw.deploy.change import Context
    from thaw.deploy.intrinsics import Attributes
    from thaw.deploy.placeholders import Place
    from thaw.deploy.template import Declared, Template

FUNCTION = "AWS::Lambda::Function"
STACK = "local"
_LAYERS = frozenset(("AWS::Lambda::LayerVersion",))
# Settings that protect an account or a quota; on one's own machine they only get in the way.
_NOT_HERE = ("SnapStart", "ReservedConcurrentExecutions", "CodeSigningConfigArn", "VpcConfig", "KmsKeyArn")
# The server of this command is its own: what is set for another one does not hold for it.
_OF_OTHER_SERVERS = ("THAW_CREDENTIALS_FILE", "THAW_ORIGIN", "THAW_L2_URL", "THAW_HOST", "THAW_IDLE_TIMEOUT_S")
POOL_SIZE = 2

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What a command was asked for; `variables` is the content of --env-vars."""

    path: Path
    snapstart: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """How a function is called: its name, and the version where it goes through freeze and thaw."""

    logical_id: str
    name: str
    qualifier: str


def local_place() -> Place:
    """Region and account of ARNs: those of the settings, as for `thaw serve`."""
    from thaw.config import read_settings
    from thaw.deploy.placeholders import Place

    settings = read_settings()
    return Place(settings.region, settings.account_id)


def load_template(options: Options) -> Template:
    """Reads the template. Raises TemplateError; nothing has been started then."""
    from thaw.deploy.template import load

    template = load(options.path, stack=STACK, place=local_place(), overrides=options.overrides)
    if not function_ids(template):
        raise TemplateError(f"{options.path} has no functions: add an AWS::Serverless::Function.")
    return template


def function_ids(template: Template) -> list[str]:
    """Logical ids of the functions."""
    return sorted(one.logical_id for one in template.resources if one.kind == FUNCTION)


def chosen(template: Template, logical_id: str | None) -> str:
    """The function that is meant: the named one, or the only one. Raises TemplateError."""
    known = function_ids(template)
    if logical_id is None and len(known) == 1:
        return known[0]
    if logical_id is None:
        raise TemplateError(f"{template.path} has {len(known)} functions: name one of {', '.join(known)}.")
    if logical_id not in known:
        raise TemplateError(f"{template.path} has no function {logical_id}: it has {', '.join(known)}.")
    return logical_id


def read_variables(path: Path | None) -> dict[str, Any]:
    """The file of --env-vars: variables by logical id, those of "Parameters" for all. Raises TemplateError."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise TemplateError(f"There is no file {path}: name one with --env-vars, or leave the option out.") from None
    except (OSError, ValueError) as error:
        raise TemplateError(f"{path} cannot be read as JSON ({error}): correct it.") from None
    if not isinstance(found, dict) or not all(isinstance(inner, dict) for inner in found.values()):
        raise TemplateError(f'{path} must look like {{"FunctionLogicalId": {{"NAME": "value"}}}}: correct it.')
    return found


@contextmanager
def temporary_server(step: Step) -> Iterator[tuple[Any, Path]]:
    """A server of its own in a temporary folder: a boto3 client of it, and its state folder. All of it goes at the end.

    The functions' runtime clients are shared with `thaw serve`, because installing one takes a while.
    """
    from thaw.cli.process import lambda_client, serving
    from thaw.config import read_settings
    from thaw.runtimes.added import share_folders

    runtimes = read_settings().state_dir / "runtimes"
    runtimes.mkdir(parents=True, exist_ok=True)
    for name in _OF_OTHER_SERVERS:
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp(prefix="thaw-local-"))
    try:
        (folder / "runtimes").symlink_to(runtimes.resolve())
        share_folders(runtimes.parent, folder)
        step("starting a server of its own in a temporary folder")
        with serving(folder, pool_size=POOL_SIZE) as server:
            yield lambda_client(server.url), folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Workspace:
    """Keeps the functions on the server as the template and the files beside it are now."""

    def __init__(self, client: Any, options: Options, step: Step) -> None:
        self._client = client
        self._options = options
        self._step = step
        self.targets: dict[str, Target] = {}
        self.attributes: dict[str, Attributes] = {}

    def bring(self, template: Template, only: str | None = None) -> list[str]:
        """Creates and updates functions and layers; returns the logical ids of functions that changed.

        `only` names the one function that is needed. Raises TemplateError or DeployFailed.
        """
        from thaw.deploy.change import Context
        from thaw.deploy.code import not_built

        context = Context(self._client, template.place, STACK, template.codes)
        attributes: dict[str, Attributes] = {}
        resolver = template.resolver(attributes)
        for code in template.codes.values():
            if (told := not_built(code.path)) is not None:
                self._step(told)
        changed: list[str] = []
        for one in template.resources:
            if one.kind == FUNCTION and only in (None, one.logical_id):
                attributes[one.logical_id], new = self._function(
                    context, one, resolver.resolve(dict(one.properties), one.place)
                )
                changed += [one.logical_id] if new else []
            elif one.kind in _LAYERS:
                attributes[one.logical_id] = self._layer(
                    context, one, resolver.resolve(dict(one.properties), one.place)
                )
            else:
                attributes[one.logical_id] = _stand_in(context, one, resolver)
        self.attributes = attributes
        return changed

    def target(self, arn: str) -> Target | None:
        """The function that an integration of an API names by its ARN, whatever version or alias that names."""
        from thaw.deploy.asking import split_function

        name, _ = split_function(arn)
        return next((target for target in self.targets.values() if target.name == name), None)

    def _function(self, context: Context, one: Declared, properties: Mapping[str, Any]) -> tuple[Attributes, bool]:
        from thaw.deploy.resources import functions

        wanted = {name: value for name, value in properties.items() if name not in _NOT_HERE}
        if self._options.snapstart:
            wanted["SnapStart"] = {"ApplyOn": "PublishedVersions"}
        wanted["Environment"] = {"Variables": self._variables(one.logical_id, properties)}
        change = functions.plan(context, one, wanted)
        known = self.targets.get(one.logical_id)
        if change.work is None and known is not None:
            return change.attributes, False
        name = change.attributes[""]
        self._step(f"{'creating' if known is None else 'updating'} {one.logical_id} ({properties.get('Runtime')})")
        found = change.attributes if change.work is None else self._carry_out(one, change.work)
        self.targets[one.logical_id] = Target(one.logical_id, name, self._qualifier(one, name))
        return found, True

    def _qualifier(self, one: Declared, name: str) -> str:
        from thaw.deploy.asking import settled

        if not self._options.snapstart:
            return "$LATEST"
        self._step(f"publishing {one.logical_id}: Init runs once, then is frozen")

        def publish(_: Any) -> Attributes:
            version: str = self._client.publish_version(FunctionName=name)["Version"]
            settled(self._client, name, version)
            return {"": version}

        return str(self._carry_out(one, publish)[""])

    def _variables(self, logical_id: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        """The template's variables, over them those for all functions, over them those for this one."""
        given = self._options.variables
        own = (properties.get("Environment") or {}).get("Variables") or {}
        named = given.get(logical_id) or given.get(str(properties.get("FunctionName"))) or {}
        return {**own, **{name: str(value) for name, value in {**given.get("Parameters", {}), **named}.items()}}

    def _layer(self, context: Context, one: Declared, properties: Mapping[str, Any]) -> Attributes:
        from thaw.deploy.resources import layers

        change = layers.plan(context, one, properties)
        if change.work is None:
            return change.attributes
        self._step(f"publishing layer {one.logical_id}")
        return self._carry_out(one, change.work)

    def _carry_out(self, one: Declared, work: Callable[[Any], Attributes]) -> Attributes:
        from botocore.exceptions import ClientError

        from thaw.deploy.change import Undo
        from thaw.errors import DeployFailed

        try:
            return work(Undo())
        except ClientError as error:
            raise DeployFailed(f"{one.logical_id} was refused: {error.response['Error']['Message']}") from None
        except DeployFailed as error:
            raise DeployFailed(f"{one.logical_id} cannot be run: {error}") from None


def _stand_in(context: Context, one: Declared, resolver: Any) -> Attributes:
    """Versions and aliases stand for their function here; all else is a placeholder, as in `thaw deploy`."""
    from thaw.deploy.plan import stand_in

    if one.kind in ("AWS::Lambda::Version", "AWS::Lambda::Alias", "AWS::Lambda::Url"):
        target = resolver.resolve(
            one.properties.get("FunctionName", one.properties.get("TargetFunctionArn")), one.place
        )
        arn = target if str(target).startswith("arn:") else context.place.arn("lambda", f"function:{target}")
        return {"": arn, "Version": "$LATEST", "FunctionArn": arn, "FunctionUrl": "http://127.0.0.1/"}
    return stand_in(context, one, resolver)
