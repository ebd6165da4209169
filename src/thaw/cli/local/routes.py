"""The routes of a template's APIs: which method and path leads to which function, in which payload format.

They are read from the OpenAPI bodies that SAM makes of Api and HttpApi events, or that a template brings itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import unquote

from thaw.cli.local.resource_routes import http_routes, rest_routes
from thaw.deploy.intrinsics import Attributes
from thaw.deploy.template import Declared, Template
from thaw.errors import TemplateError

ANY = "ANY"
DEFAULT = "$default"
_REST, _HTTP, _URL = "AWS::ApiGateway::RestApi", "AWS::ApiGatewayV2::Api", "AWS::Lambda::Url"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_EVERY_METHOD = "x-amazon-apigateway-any-method"
_INTEGRATION = "x-amazon-apigateway-integration"
_FUNCTION = re.compile(r":lambda:path/2015-03-31/functions/(.+)/invocations")
# HTTP APIs take a function's ARN itself, too.
_LAMBDA = re.compile(r"(arn:aws[a-z-]*:lambda:.+)")
_SEGMENT = re.compile(r"\{([^}+]+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Api:
    """One API: its payload format is a route's matter. `cors` is in the form of function URLs."""

    api_id: str
    stage: str
    is_rest: bool
    binary_types: tuple[str, ...] = ()
    cors: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """`function_arn` is None for an answer that the API gives itself (`headers`, of CORS), or that nobody can give."""

    api: Api
    method: str
    path: str
    payload: str
    function_arn: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    unsupported: str | None = None

    @property
    def key(self) -> str:
        """As API Gateway writes it: "GET /p/{id}"."""
        return DEFAULT if self.path == DEFAULT else f"{self.method} {self.path}"

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The path parameters (decoded) of a request, or None where the route is not for it."""
        if self.method not in (ANY, method):
            return None
        if self.path == DEFAULT:
            return {}
        found = _pattern(self.path).fullmatch(path)
        return (
            None
            if found is None
            else {name: unquote(value) for name, value in zip(_names(self.path), found.groups(), strict=True)}
        )

    @property
    def rank(self) -> tuple[tuple[int, ...], int]:
        """The most specific route comes first: a word before a parameter before a rest of the path."""
        if self.path == DEFAULT:
            return (9,), 0
        parts = (_SEGMENT.fullmatch(part) for part in self.path.strip("/").split("/"))
        return tuple(0 if part is None else 2 if part[2] else 1 for part in parts), int(self.method == ANY)


@cache
def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]+\})", path.rstrip("/") or "/")
    text = "".join(_part(part) for part in parts)
    return re.compile(text + "/?")


def _part(part: str) -> str:
    found = _SEGMENT.fullmatch(part)
    return re.escape(part) if found is None else "(.+)" if found[2] else "([^/]+)"


def _names(path: str) -> list[str]:
    return [name for name, _ in _SEGMENT.findall(path)]


def routes_of(template: Template, attributes: Mapping[str, Attributes]) -> list[Route]:
    """All routes, the most specific first. Raises TemplateError where there are none."""
    found = list(_all_routes(template, attributes))
    if not found:
        raise TemplateError(
            f"{template.path} has no API: give a function an event of type HttpApi or Api, or a FunctionUrlConfig."
        )
    return sorted(found, key=lambda route: route.rank)


def _all_routes(template: Template, attributes: Mapping[str, Attributes]) -> Iterator[Route]:
    apis = [one for one in template.resources if one.kind in (_REST, _HTTP)]
    for one in apis:
        yield from _of_api(template, attributes, one)
    if apis:
        return
    for one in template.resources:
        if one.kind == _URL:
            resolved = template.resolver(attributes).resolve(dict(one.properties), one.place)
            api = Api(one.logical_id.lower(), DEFAULT, is_rest=False, cors=resolved.get("Cors"))
            yield Route(api, ANY, DEFAULT, "2.0", str(resolved["TargetFunctionArn"]))


def _of_api(template: Template, attributes: Mapping[str, Attributes], one: Declared) -> Iterator[Route]:
    properties = template.resolver(attributes).resolve(dict(one.properties), one.place)
    body = properties.get("Body") or {}
    types = (*(properties.get("BinaryMediaTypes") or ()), *(body.get("x-amazon-apigateway-binary-media-types") or ()))
    api = Api(
        api_id=str(attributes[one.logical_id][""]),
        stage=_stage(template, attributes, one),
        is_rest=one.kind == _REST,
        binary_types=tuple(str(kind).replace("~1", "/") for kind in types),
        cors=_cors(properties.get("CorsConfiguration") or body.get("x-amazon-apigateway-cors")),
    )
    spelled = rest_routes if api.is_rest else http_routes
    for method, path, integration in spelled(template, attributes, one):
        yield _route(api, method, path, integration)
    for path, methods in (body.get("paths") or {}).items():
        for name, operation in methods.items():
            method = ANY if name == _EVERY_METHOD else name.upper()
            if (name in _METHODS or name == _EVERY_METHOD) and isinstance(operation, dict):
                yield _route(api, method, path, operation.get(_INTEGRATION) or {})


def _route(api: Api, method: str, path: str, integration: Mapping[str, Any]) -> Route:
    kind = str(integration.get("type", "")).lower()
    payload = "1.0" if api.is_rest else str(integration.get("payloadFormatVersion", "2.0"))
    if kind == "mock":
        return Route(api, method, path, payload, None, headers=_mocked(integration))
    found = _FUNCTION.search(str(integration.get("uri", "")))
    if found is None:
        found = _LAMBDA.fullmatch(str(integration.get("uri", "")))
    if kind != "aws_proxy" or found is None:
        said = f"{method} {path} leads to an integration of type {kind or 'none'}, which is not served here."
        return Route(api, method, path, payload, None, unsupported=said)
    return Route(api, method, path, payload, found[1])


def _mocked(integration: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a mock integration, which is how REST APIs answer CORS preflights."""
    answers: Mapping[str, Any] = integration.get("responses") or {}
    first: Mapping[str, Any] = next(iter(answers.values())) if answers else {}
    given: Mapping[str, Any] = first.get("responseParameters") or {}
    prefix = "method.response.header."
    return {
        name.removeprefix(prefix): str(value).strip("'") for name, value in given.items() if name.startswith(prefix)
    }


def _cors(given: Any) -> dict[str, Any] | None:
    """allowOrigins of an OpenAPI extension, AllowOrigins of CloudFormation: the latter is the form of function URLs."""
    if not isinstance(given, Mapping) or not given:
        return None
    return {name[:1].upper() + name[1:]: value for name, value in given.items()}


def _stage(template: Template, attributes: Mapping[str, Attributes], api: Declared) -> str:
    """The name of the API's first stage."""
    for one in template.resources:
        if one.kind in ("AWS::ApiGateway::Stage", "AWS::ApiGatewayV2::Stage"):
            owner = one.properties.get("RestApiId") or one.properties.get("ApiId")
            if owner == {"Ref": api.logical_id}:
                name = template.resolver(attributes).resolve(one.properties.get("StageName"), one.place)
                return str(name)
    return DEFAULT if api.kind == _HTTP else "Prod"
