"""Routes that a template spells out in resources, as the CDK does: Route and Integration, Resource and Method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from thaw.deploy.intrinsics import Attributes
from thaw.deploy.template import Declared, Template

Spelled = tuple[str, str, Mapping[str, Any]]
"""Method (ANY: all), path and integration, the latter in the words of API Gateway's OpenAPI extension."""


def http_routes(template: Template, attributes: Mapping[str, Attributes], api: Declared) -> Iterator[Spelled]:
    """AWS::ApiGatewayV2::Route of one API, each with the Integration that its Target names."""
    integrations = {
        f"integrations/{attributes[one.logical_id]['']}": _resolved(template, attributes, one)
        for one in _of(template, "AWS::ApiGatewayV2::Integration", "ApiId", api)
    }
    for one in _of(template, "AWS::ApiGatewayV2::Route", "ApiId", api):
        route = _resolved(template, attributes, one)
        method, _, path = str(route.get("RouteKey", "$default")).rpartition(" ")
        found = integrations.get(str(route.get("Target")), {})
        integration = {
            "type": found.get("IntegrationType", ""),
            "uri": found.get("IntegrationUri", ""),
            "payloadFormatVersion": found.get("PayloadFormatVersion", "1.0"),
        }
        yield method or "ANY", path, integration


def rest_routes(template: Template, attributes: Mapping[str, Attributes], api: Declared) -> Iterator[Spelled]:
    """AWS::ApiGateway::Method of one API, each at the path of its Resource."""
    parts = {one.logical_id: one for one in _of(template, "AWS::ApiGateway::Resource", "RestApiId", api)}
    for one in _of(template, "AWS::ApiGateway::Method", "RestApiId", api):
        integration = _resolved(template, attributes, one).get("Integration") or {}
        answers = integration.get("IntegrationResponses") or ()
        shown = {
            "type": integration.get("Type", ""),
            "uri": integration.get("Uri", ""),
            "responses": {str(number): _response(answer) for number, answer in enumerate(answers)},
        }
        yield str(one.properties.get("HttpMethod", "ANY")), _path(parts, one.properties.get("ResourceId")), shown


def _response(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"responseParameters": answer.get("ResponseParameters") or {}}


def _path(parts: Mapping[str, Declared], reference: Any) -> str:
    """The path of a resource: its parts up to the root, which is no resource of its own."""
    name = str(reference.get("Ref")) if isinstance(reference, dict) else ""
    if name not in parts:
        return "/"
    above = _path(parts, parts[name].properties.get("ParentId"))
    return f"{above.rstrip('/')}/{parts[name].properties.get('PathPart', '')}"


def _of(template: Template, kind: str, member: str, api: Declared) -> Iterator[Declared]:
    """The resources of a kind that belong to the API."""
    for one in template.resources:
        if one.kind == kind and one.properties.get(member) == {"Ref": api.logical_id}:
            yield one


def _resolved(template: Template, attributes: Mapping[str, Attributes], one: Declared) -> dict[str, Any]:
    found: dict[str, Any] = template.resolver(attributes).resolve(dict(one.properties), one.place)
    return found
