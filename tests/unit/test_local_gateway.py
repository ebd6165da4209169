"""API Gateway's side of `thaw local start-api`: routes of templates, events of requests, responses of answers."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from thaw.api.http import Request
from thaw.cli.local.commands import read_event
from thaw.cli.local.events import NotAnAnswer, event_for, response_for
from thaw.cli.local.gateway import Gateway
from thaw.cli.local.routes import Route, routes_of
from thaw.cli.local.workspace import Options, Target, chosen, load_template, read_variables
from thaw.deploy.placeholders import Place
from thaw.deploy.plan import stand_in
from thaw.deploy.template import load
from thaw.errors import TemplateError

ARN = "arn:aws:lambda:us-east-1:123456789012:function:echo"
PLACE = Place("us-east-1", "123456789012")
TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Api: {Cors: {AllowOrigin: "'*'", AllowHeaders: "'x-a'", AllowMethods: "'GET'"}, BinaryMediaTypes: [image/png]}
  HttpApi:
    CorsConfiguration: {AllowOrigins: [https://a.example], AllowMethods: [GET], ExposeHeaders: [x-b], MaxAge: 5}
Resources:
  Echo:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: app.py
      Events:
        One: {Type: Api, Properties: {Path: '/p/{id}', Method: get}}
        Fixed: {Type: Api, Properties: {Path: /p/me, Method: any}}
        Rest: {Type: Api, Properties: {Path: '/p/{proxy+}', Method: post}}
        Http: {Type: HttpApi, Properties: {Path: '/h/{id}/x', Method: get}}
        Old: {Type: HttpApi, Properties: {Path: /old, Method: post, PayloadFormatVersion: '1.0'}}
"""


class Answering:
    """Stands for the server: one function that answers what a test wants, and remembers its events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.answer: Any = {"statusCode": 200, "body": "ok"}
        self.error: str | None = None

    def invoke(self, **arguments: Any) -> dict[str, Any]:
        self.events.append(json.loads(arguments["Payload"]))
        failed = {"FunctionError": self.error} if self.error else {}
        return {"Payload": io.BytesIO(json.dumps(self.answer).encode()), **failed}


def routes(tmp_path: Any, text: str = TEMPLATE) -> list[Route]:
    (tmp_path / "app.py").write_text("def handler(event, context): return event\n")
    path = tmp_path / "template.yaml"
    path.write_text(text)
    template = load(path, stack="local", place=PLACE)
    attributes: dict[str, Any] = {"Echo": {"": "echo", "Arn": ARN}}
    for one in template.resources:
        if one.logical_id not in attributes:
            context: Any = type("Context", (), {"place": PLACE, "stack": "local"})()
            attributes[one.logical_id] = stand_in(context, one, template.resolver(attributes))
    return routes_of(template, attributes)


class Front:
    """The gateway, asked without a network."""

    def __init__(self, found: list[Route]) -> None:
        self.client = Answering()
        self.told: list[str] = []
        self.gateway = Gateway(self.client, "123456789012", self.told.append)
        self.found = found

    async def ask(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Any:
        path, _, query = target.partition("?")
        all_headers = {"host": "localhost:3000"} | (headers or {})
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode(),
            "scheme": "http", "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 3000),
            "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        def known() -> Any:
            return self.found, lambda arn: Target("Echo", "echo", "$LATEST") if arn == ARN else None

        await self.gateway.bring(known)
        await self.gateway(scope, receive, send)
        shown = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], shown, sent[1]["body"]


@pytest.fixture
def front(tmp_path: Any) -> Any:
    made = Front(routes(tmp_path))
    yield made
    made.gateway.close()


def test_routes_are_those_of_the_events_the_most_specific_first(tmp_path: Any) -> None:
    found = [(route.method, route.path, route.payload) for route in routes(tmp_path) if route.function_arn]
    assert found.index(("ANY", "/p/me", "1.0")) < found.index(("GET", "/p/{id}", "1.0"))
    assert found.index(("GET", "/p/{id}", "1.0")) < found.index(("POST", "/p/{proxy+}", "1.0"))
    assert {("GET", "/h/{id}/x", "2.0"), ("POST", "/old", "1.0")} <= set(found)


async def test_a_rest_event(front: Front) -> None:
    headers = {"user-agent": "test", "x-amzn-trace-id": "Root=1", "x-mine": "a"}
    assert (await front.ask("GET", "/p/a%20b?x=1&x=2&y=", headers))[0] == 200
    (event,) = front.client.events
    context = event.pop("requestContext")
    assert event == {
        "resource": "/p/{id}",
        "path": "/p/a%20b",
        "httpMethod": "GET",
        "headers": {
            "Host": "localhost:3000", "User-Agent": "test", "X-Amzn-Trace-Id": "Root=1", "X-Mine": "a",
            "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Port": "3000", "X-Forwarded-Proto": "http",
        },
        "multiValueHeaders": {
            "Host": ["localhost:3000"], "User-Agent": ["test"], "X-Amzn-Trace-Id": ["Root=1"], "X-Mine": ["a"],
            "X-Forwarded-For": ["127.0.0.1"], "X-Forwarded-Port": ["3000"], "X-Forwarded-Proto": ["http"],
        },
        "queryStringParameters": {"x": "2", "y": ""},
        "multiValueQueryStringParameters": {"x": ["1", "2"], "y": [""]},
        "pathParameters": {"id": "a b"},
        "stageVariables": None,
        "body": None,
        "isBase64Encoded": False,
    }  # fmt: skip
    assert (context["stage"], context["path"], context["resourcePath"]) == ("Prod", "/Prod/p/a%20b", "/p/{id}")
    assert (context["identity"]["sourceIp"], context["accountId"]) == ("127.0.0.1", "123456789012")


async def test_an_event_of_an_http_api(front: Front) -> None:
    await front.ask("GET", "/h/7/x?x=1&x=2", {"cookie": "a=1; b=2", "x-amzn-trace-id": "Root=1"})
    (event,) = front.client.events
    context = event.pop("requestContext")
    assert event == {
        "version": "2.0",
        "routeKey": "GET /h/{id}/x",
        "rawPath": "/h/7/x",
        "rawQueryString": "x=1&x=2",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "host": "localhost:3000", "x-amzn-trace-id": "Root=1", "x-forwarded-for": "127.0.0.1",
            "x-forwarded-port": "3000", "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"x": "1,2"},
        "pathParameters": {"id": "7"},
        "isBase64Encoded": False,
    }  # fmt: skip
    assert (context["routeKey"], context["stage"], context["accountId"]) == (
        "GET /h/{id}/x",
        "$default",
        "123456789012",
    )


async def test_an_http_api_with_the_old_payload_format(front: Front) -> None:
    await front.ask("POST", "/old", {"content-type": "text/plain"}, b"text")
    (event,) = front.client.events
    assert (event["version"], event["httpMethod"], event["body"], event["isBase64Encoded"]) == (
        "1.0",
        "POST",
        "text",
        False,
    )


@pytest.mark.parametrize(
    ("path", "kind", "body", "expected"),
    [
        ("/p/a/b", "image/png", b"\x89PNG", ("iVBORw==", True)),
        ("/p/a/b", "image/png", b"text", ("dGV4dA==", True)),
        ("/p/a/b", "application/json", b"{}", ("{}", False)),
        ("/p/a/b", "application/json", b"\xff", ("/w==", True)),
    ],
)
async def test_bodies_of_binary_types_come_as_base64(
    front: Front, path: str, kind: str, body: bytes, expected: Any
) -> None:
    await front.ask("POST", path, {"content-type": kind}, body)
    (event,) = front.client.events
    assert (event["body"], event["isBase64Encoded"]) == expected
    assert event["pathParameters"] == {"proxy": "a/b"}


async def test_answers_with_headers_and_binary_bodies(front: Front) -> None:
    front.client.answer = {
        "statusCode": "201", "headers": {"Content-Type": "image/png", "x-n": 5},
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]}, "body": "iVBORw==", "isBase64Encoded": True,
    }  # fmt: skip
    status, headers, body = await front.ask("GET", "/p/1")
    assert (status, headers["content-type"], headers["x-n"], body) == (201, "image/png", "5", b"\x89PNG")
    front.client.answer = {"statusCode": 200, "body": "dGV4dA==", "isBase64Encoded": True}
    assert (await front.ask("GET", "/p/1"))[2] == b"dGV4dA=="
    assert (await front.ask("GET", "/h/1/x"))[2] == b"text"


async def test_what_is_no_route(front: Front) -> None:
    assert (await front.ask("GET", "/other"))[0::2] == (403, b'{"message":"Missing Authentication Token"}')
    assert front.told[0].startswith("GET /other 403, ")
    only_http = [route for route in front.found if not route.api.is_rest]
    front.found = only_http
    assert (await front.ask("PUT", "/h/1/x"))[0::2] == (404, b'{"message":"Not Found"}')


async def test_a_function_that_fails_or_answers_nonsense(front: Front) -> None:
    front.client.error, front.client.answer = "Unhandled", {"errorMessage": "no"}
    assert (await front.ask("GET", "/p/1"))[0::2] == (502, b'{"message":"Internal server error"}')
    assert (await front.ask("GET", "/h/1/x"))[0::2] == (500, b'{"message":"Internal Server Error"}')
    assert front.told[0] == 'Echo failed: {"errorMessage": "no"}'
    front.client.error, front.client.answer = None, {"status": 200}
    assert (await front.ask("GET", "/p/1"))[0] == 502
    assert 'Echo gave no HTTP response: it is no object with a "statusCode".' in front.told


async def test_cors_of_both_kinds_of_api(front: Front) -> None:
    asking = {"origin": "https://a.example", "access-control-request-method": "GET"}
    status, headers, _ = await front.ask("OPTIONS", "/p/1", asking)
    assert status == 200
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "x-a"
    status, headers, _ = await front.ask("OPTIONS", "/h/1/x", asking)
    assert (status, headers["access-control-allow-origin"]) == (204, "https://a.example")
    assert headers["access-control-max-age"] == "5"
    _, headers, _ = await front.ask("OPTIONS", "/h/1/x", asking | {"origin": "https://b.example"})
    assert "access-control-allow-origin" not in headers
    _, headers, _ = await front.ask("GET", "/h/1/x", {"origin": "https://a.example"})
    assert headers["access-control-expose-headers"] == "x-b"
    assert front.client.events[0]["requestContext"]["http"]["method"] == "GET"


async def test_head_gets_the_headers_only(front: Front) -> None:
    status, headers, body = await front.ask("HEAD", "/p/me")
    assert (status, headers["content-length"], body) == (200, "2", b"")


def request() -> Request:
    return Request(request_id="1", method="GET", raw_path="/", query={}, headers={}, base_url="http://localhost")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([], 'it is no object with a "statusCode"'),
        ({"statusCode": "x"}, "'x' is no status code"),
        ({"statusCode": 200, "body": {}}, "its body is no text: json.dumps makes one"),
        ({"statusCode": 200, "bdy": ""}, "API Gateway does not know its members bdy"),
        ({"statusCode": 200, "headers": []}, None),
        ({"statusCode": 200, "headers": "x"}, "its headers are no objects"),
        ({"statusCode": 200, "headers": {"a": "b\r\nc: d"}}, "a header has a line break in it"),
    ],
)
def test_answers_of_rest_apis_that_are_no_responses(tmp_path: Any, answer: Any, said: str | None) -> None:
    rest = next(route for route in routes(tmp_path) if route.api.is_rest and route.function_arn)
    if said is None:
        assert response_for(rest, request(), json.dumps(answer).encode()).status == 200
        return
    with pytest.raises(NotAnAnswer) as refused:
        response_for(rest, request(), json.dumps(answer).encode())
    assert str(refused.value) == said


def test_a_template_with_a_function_url_only(tmp_path: Any) -> None:
    start = TEMPLATE.index("      Events:")
    text = TEMPLATE[:start] + "      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: ['*']}}\n"
    (route,) = routes(tmp_path, text)
    assert (route.key, route.function_arn, route.api.cors) == ("$default", "echo", {"AllowOrigins": ["*"]})
    event = json.loads(event_for(request(), route, {}, b"", "123456789012"))
    assert event["routeKey"] == "$default"


SPELLED = """
Resources:
  Echo: {Type: AWS::Lambda::Function, Properties: {Handler: app.handler, Runtime: python3.13, Code: app.py}}
  Http: {Type: AWS::ApiGatewayV2::Api, Properties: {Name: h, ProtocolType: HTTP}}
  Calls:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      {ApiId: !Ref Http, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt Echo.Arn, PayloadFormatVersion: '2.0'}
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Http, RouteKey: 'GET /x/{id}', Target: !Join ['', [integrations/, !Ref Calls]]}
  Rest: {Type: AWS::ApiGateway::RestApi, Properties: {Name: r}}
  Items: {Type: AWS::ApiGateway::Resource, Properties: {RestApiId: !Ref Rest, ParentId: !GetAtt Rest.Root, PathPart: i}}
  Item: {Type: AWS::ApiGateway::Resource, Properties: {RestApiId: !Ref Rest, ParentId: !Ref Items, PathPart: '{id}'}}
  Get:
    Type: AWS::ApiGateway::Method
    Properties:
      RestApiId: !Ref Rest
      ResourceId: !Ref Item
      HttpMethod: GET
      Integration:
        Type: AWS_PROXY
        Uri: !Sub 'arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Echo.Arn}/invocations'
  Root:
    Type: AWS::ApiGateway::Method
    Properties: {RestApiId: !Ref Rest, ResourceId: !GetAtt Rest.Root, HttpMethod: POST, Integration: {Type: HTTP}}
"""


def test_apis_that_are_spelled_out_in_resources(tmp_path: Any) -> None:
    found = routes(tmp_path, SPELLED)
    assert [(route.key, route.payload, route.function_arn) for route in found if route.function_arn] == [
        ("GET /x/{id}", "2.0", ARN),
        ("GET /i/{id}", "1.0", ARN),
    ]
    (other,) = [route for route in found if route.unsupported]
    assert other.unsupported == "POST / leads to an integration of type http, which is not served here."


def test_a_template_without_an_api(tmp_path: Any) -> None:
    with pytest.raises(TemplateError) as refused:
        routes(tmp_path, TEMPLATE[: TEMPLATE.index("      Events:")])
    assert str(refused.value) == (
        f"{tmp_path / 'template.yaml'} has no API: "
        "give a function an event of type HttpApi or Api, or a FunctionUrlConfig."
    )


# --- what a command is asked for --------------------------------------------------------------------------------------


def sentence(call: Any, *arguments: Any) -> str:
    with pytest.raises(TemplateError) as refused:
        call(*arguments)
    return str(refused.value)


def test_functions_are_chosen_by_their_logical_id(tmp_path: Any) -> None:
    routes(tmp_path)
    path = tmp_path / "template.yaml"
    template = load_template(Options(path))
    assert chosen(template, None) == chosen(template, "Echo") == "Echo"
    assert sentence(chosen, template, "Eco") == f"{path} has no function Eco: it has Echo."
    path.write_text(
        TEMPLATE + TEMPLATE[TEMPLATE.index("  Echo:") : TEMPLATE.index("      Events:")].replace("Echo", "Two")
    )
    assert sentence(chosen, load_template(Options(path)), None) == f"{path} has 2 functions: name one of Echo, Two."
    path.write_text("Resources: {T: {Type: AWS::DynamoDB::Table}}")
    assert sentence(load_template, Options(path)) == f"{path} has no functions: add an AWS::Serverless::Function."


def test_files_of_events_and_variables(tmp_path: Any) -> None:
    file = tmp_path / "file.json"
    assert sentence(read_event, str(file)) == (
        f"The event {file} cannot be read (No such file or directory): name a JSON file."
    )
    assert sentence(read_variables, file) == (
        f"There is no file {file}: name one with --env-vars, or leave the option out."
    )
    file.write_text("{")
    assert sentence(read_event, str(file)) == (
        f"The event {file} is no JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): "
        "correct it."
    )
    file.write_text('{"A": "b"}')
    assert sentence(read_variables, file) == (
        f'{file} must look like {{"FunctionLogicalId": {{"NAME": "value"}}}}: correct it.'
    )
    file.write_text('{"A": {"b": "c"}}')
    assert read_variables(file) == {"A": {"b": "c"}}
    assert read_event(None) == b"{}"
