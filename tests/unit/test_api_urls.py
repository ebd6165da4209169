"""Function URLs over the ASGI application: settings, events, responses, CORS."""

import base64
import json
import re
import time

import pytest

from clients.front import ACCOUNT, REGION, front_with_alias, path
from thaw.api.http import INVOKE_LIMIT

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"


@pytest.fixture
async def front(tmp_path):
    async with front_with_alias(tmp_path) as opened:
        yield opened


def config(front, method, members=None, qualifier=None, name="f", **where):
    query = {"Qualifier": qualifier} if qualifier else None
    return front.ask(method, f"/2021-10-31/functions/{name}/url", members, query=query, **where)


async def host_of(front, **members):
    url = (await config(front, "POST", {"AuthType": "NONE", **members})).json["FunctionUrl"]
    return url.removeprefix("http://").removesuffix("/")


async def event_of(front, method="GET", place="/", headers=(), **request):
    host = await host_of(front)
    reply = await front.ask(method, place, headers=[("host", host), *headers], **request)
    assert reply.status == 200
    return json.loads(front.echo.calls[-1].payload), host, reply


# --- settings --------------------------------------------------------------------------------------------------------


async def test_a_url_from_creation_to_deletion(front):
    reply = await config(front, "POST", {"AuthType": "NONE"})
    created = reply.json
    assert reply.status == 201
    assert re.fullmatch(r"http://[a-z2-7]{32}\.lambda-url\.us-east-1\.thaw\.test:3001/", created["FunctionUrl"])
    assert created.keys() == {"FunctionUrl", "FunctionArn", "AuthType", "CreationTime"}
    assert (created["FunctionArn"], created["AuthType"]) == (ARN, "NONE")
    assert (await config(front, "POST", {"AuthType": "NONE"})).error == (
        409,
        "ResourceConflictException",
        f"Failed to create function url config for [functionArn = {ARN}]. "
        "Error message:  FunctionUrlConfig exists for this Lambda function",
    )
    found = (await config(front, "GET")).json
    assert found == {**created, "InvokeMode": "BUFFERED", "LastModifiedTime": created["CreationTime"]}
    changes = {"AuthType": "AWS_IAM", "Cors": {"AllowOrigins": ["*"]}, "InvokeMode": "RESPONSE_STREAM"}
    changed = (await config(front, "PUT", changes)).json
    assert {name: changed[name] for name in changes} == changes
    assert (await config(front, "PUT", {})).json["Cors"] == {"AllowOrigins": ["*"]}
    assert "Cors" not in (await config(front, "PUT", {"Cors": {}})).json
    assert (await config(front, "DELETE")).status == 204
    assert (await config(front, "GET")).error[:2] == (404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    ("host", "domain"), [("127.0.0.1:9", "localhost:9"), ("[::1]:9", "localhost:9"), ("localhost", "localhost")]
)
async def test_a_url_is_below_a_name_never_below_an_address(front, host, domain):
    created = await config(front, "POST", {"AuthType": "NONE"}, headers={"host": host})
    assert created.json["FunctionUrl"].endswith(f".lambda-url.us-east-1.{domain}/")


async def test_urls_are_listed_page_by_page(front):
    await config(front, "POST", {"AuthType": "NONE"})
    await config(front, "POST", {"AuthType": "NONE"}, "live")
    first = (await front.ask("GET", "/2021-10-31/functions/f/urls", query={"MaxItems": 1})).json
    rest = (await front.ask("GET", "/2021-10-31/functions/f/urls", query={"Marker": first["NextMarker"]})).json
    arns = [one["FunctionArn"] for one in first["FunctionUrlConfigs"] + rest["FunctionUrlConfigs"]]
    assert arns == [ARN, f"{ARN}:live"]


async def test_settings_of_urls_that_cannot_be(front):
    body = {"AuthType": "NONE"}
    pattern = (
        "1 validation error detected: Value '1' at 'qualifier' failed to satisfy constraint: "
        r"Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)"
    )
    replies = [
        await config(front, "POST", body, name="g"),
        await config(front, "POST", body, "none"),
        await config(front, "POST", body, "1"),
        await config(front, "PUT", {}, name="g"),
        await config(front, "PUT", {}),
        await config(front, "GET", name="g"),
        await config(front, "DELETE"),
        await front.ask("GET", "/2021-10-31/functions/g/urls"),
    ]
    missing = "The resource you requested does not exist."
    gone = "Function does not exist"
    assert [one.error[2] for one in replies] == [gone, gone, pattern, gone, missing, missing, missing, gone]


# --- events ----------------------------------------------------------------------------------------------------------


async def test_the_event_of_a_request(front):
    event, host, reply = await event_of(
        front,
        "POST",
        "/a%20b/%C3%BC",
        [
            ("content-type", "application/json; charset=utf-8"),
            ("x-twice", "1"),
            ("X-Twice", "2"),
            ("cookie", "a=1; b=2"),
            ("user-agent", "agent"),
        ],
        query="q=1&q=2&e=&p=%2F",
        body='{"ü": 1}'.encode(),
    )
    moment = event["requestContext"].pop("timeEpoch")
    assert abs(moment / 1000 - time.time()) < 60
    assert re.fullmatch(r"\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000", event["requestContext"].pop("time"))
    trace = event["headers"].pop("x-amzn-trace-id")
    assert trace == reply.headers["x-amzn-trace-id"]
    url_id = host.partition(".")[0]
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/a%20b/%C3%BC",
        "rawQueryString": "q=1&q=2&e=&p=%2F",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "host": host,
            "content-type": "application/json; charset=utf-8",
            "x-twice": "1,2",
            "user-agent": "agent",
            "x-forwarded-for": "192.0.2.7",
            "x-forwarded-proto": "http",
            "x-forwarded-port": "3001",
        },
        "queryStringParameters": {"q": "1,2", "e": "", "p": "/"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": url_id,
            "domainName": host.partition(":")[0],
            "domainPrefix": url_id,
            "http": {
                "method": "POST",
                "path": "/a%20b/%C3%BC",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.7",
                "userAgent": "agent",
            },
            "requestId": reply.headers["x-amzn-requestid"],
            "routeKey": "$default",
            "stage": "$default",
        },
        "body": '{"ü": 1}',
        "isBase64Encoded": False,
    }


@pytest.mark.parametrize(
    ("content_type", "body", "encoded"),
    [
        ("text/plain", b"a", False),
        ("application/problem+json", b"{}", False),
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("multipart/form-data; boundary=b", b"--b", True),
        ("image/png", b"\x89PNG", True),
        ("application/json", b"\xff", True),
        ("", b"a", True),
    ],
)
async def test_bodies_are_text_or_base64(front, content_type, body, encoded):
    event, _, _ = await event_of(front, "POST", headers=[("content-type", content_type)], body=body)
    assert event["isBase64Encoded"] is encoded
    assert event["body"] == (base64.b64encode(body).decode() if encoded else body.decode())


async def test_what_a_request_does_not_have_is_not_in_the_event(front):
    event, _, _ = await event_of(front)
    assert not {"body", "cookies", "queryStringParameters"} & event.keys()
    assert (event["rawQueryString"], event["isBase64Encoded"]) == ("", False)


async def test_the_function_is_reached_by_path_too(front):
    url_id = (await host_of(front)).partition(".")[0]
    for place, below in (("", "/"), ("/", "/"), ("/a/b", "/a/b")):
        reply = await front.ask("GET", f"/thaw/urls/{url_id}{place}")
        assert reply.status == 200
        assert json.loads(front.echo.calls[-1].payload)["rawPath"] == below


async def test_a_url_of_an_alias_calls_its_version(front):
    url = (await config(front, "POST", {"AuthType": "NONE"}, "live")).json["FunctionUrl"]
    assert (await front.ask("GET", "/", headers={"host": url[7:-1].upper()})).status == 200
    (call,) = front.echo.calls
    assert (call.executed_version, call.invoked_arn) == ("1", f"{ARN}:live")
    await front.ask("DELETE", path("f", "/aliases/live"))
    gone = await front.ask("GET", "/", headers={"host": url[7:-1]})
    assert (gone.status, gone.json, gone.headers["x-amzn-errortype"]) == (
        403,
        {"Message": None},
        "AccessDeniedException",
    )


# --- responses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "status", "body", "content_type"),
    [
        ({"hello": "world"}, 200, b'{"hello":"world"}', "application/json"),
        (["hello", 3, True], 200, b'["hello",3,true]', "application/json"),
        ("hello", 200, b"hello", "application/json"),
        (3.1, 200, b"3.1", "application/json"),
        (None, 200, b"null", "application/json"),
        ({"statusCode": 418}, 418, b"", "application/json"),
        ({"statusCode": "201", "body": "x"}, 201, b"x", "application/json"),
        ({"statusCode": 200, "body": "body123", "headers": {"Content-Type": "text/x"}}, 200, b"body123", "text/x"),
        ({"statusCode": 200, "body": "/w==", "isBase64Encoded": True}, 200, b"\xff", "application/json"),
        ({"statusCode": 200, "body": {"a": 1}}, 200, b'{"a":1}', "application/json"),
        ({"statusCode": 204, "body": "x"}, 204, b"", "application/json"),
    ],
)
async def test_what_a_function_returns_becomes_a_response(front, returned, status, body, content_type):
    front.echo.returns = json.dumps(returned).encode()
    reply = await front.ask("GET", "/", headers={"host": await host_of(front)})
    assert (reply.status, reply.body, reply.headers["content-type"]) == (status, body, content_type)


async def test_headers_and_cookies_of_a_response(front):
    headers = {"X-A": "ü", "X-N": 5, "Content-Length": "999", "Connection": "close"}
    front.echo.returns = json.dumps({"statusCode": 200, "headers": headers, "cookies": ["a=1; Secure"]}).encode()
    reply = await front.ask("GET", "/", headers={"host": await host_of(front)})
    assert reply.headers["x-a"] == "ü"
    assert (reply.headers["x-n"], reply.headers["set-cookie"]) == ("5", "a=1; Secure")
    assert "connection" not in reply.headers
    assert reply.headers["content-length"] == "0"


@pytest.mark.parametrize(
    "returned",
    [
        {"statusCode": 99},
        {"statusCode": "ok"},
        {"statusCode": True},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "cookies": "a"},
        {"statusCode": 200, "headers": {"x": "a\r\nset-cookie: b"}},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "body": "?", "isBase64Encoded": True},
        {"statusCode": 200, "body": 5, "isBase64Encoded": True},
    ],
)
async def test_what_is_no_response_is_a_bad_gateway(front, returned):
    front.echo.returns = json.dumps(returned).encode()
    reply = await front.ask("GET", "/", headers={"host": await host_of(front)})
    assert (reply.status, reply.body) == (502, b"Internal Server Error")


async def test_an_error_of_the_function_is_a_bad_gateway(front):
    host = await host_of(front)
    original, front.echo.invoke = front.echo.invoke, None

    async def fail(call):
        answer = await original(call)
        return type(answer)(payload=b"{}", executed_version="1", function_error="Unhandled")

    front.echo.invoke = fail
    reply = await front.ask("GET", "/", headers={"host": host})
    assert (reply.status, reply.body) == (502, b"Internal Server Error")


async def test_streamed_answers(front):
    host = await host_of(front, InvokeMode="RESPONSE_STREAM")
    head = json.dumps({"statusCode": 201, "headers": {"content-type": "text/plain"}}).encode()
    for returned, status, body, content_type in (
        (b'{"statusCode":201}', 200, b'{"statusCode":201}', "application/octet-stream"),
        (head + b"\0" * 8 + b"rest\0", 201, b"rest\0", "text/plain"),
        (b"{}" + b"\0" * 8 + b"rest", 200, b"rest", "application/json"),
        (b"no" + b"\0" * 8, 502, b"Internal Server Error", "application/json"),
    ):
        front.echo.returns = returned
        reply = await front.ask("GET", "/", headers={"host": host})
        assert (reply.status, reply.body, reply.headers["content-type"]) == (status, body, content_type)


async def test_requests_over_the_limit_are_refused(front):
    host = await host_of(front)
    for body in (b"x" * (INVOKE_LIMIT + 1), b"x" * (INVOKE_LIMIT - 10)):
        reply = await front.ask("POST", "/", headers={"host": host}, body=body)
        assert reply.error[:2] == (413, "RequestTooLargeException")
    assert front.echo.calls == []


# --- CORS ------------------------------------------------------------------------------------------------------------

CORS = {
    "AllowOrigins": ["https://a.example", "https://*.b.example"],
    "AllowMethods": ["GET", "POST"],
    "AllowHeaders": ["x-a"],
    "ExposeHeaders": ["x-b"],
    "MaxAge": 60,
    "AllowCredentials": True,
}


def cors_headers(reply):
    return {name: value for name, value in reply.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize("origin", ["https://a.example", "https://x.b.example"])
async def test_a_browsers_question_is_answered_without_the_function(front, origin):
    host = await host_of(front, Cors=CORS)
    headers = {"host": host, "origin": origin, "access-control-request-method": "POST"}
    reply = await front.ask("OPTIONS", "/a", headers=headers)
    assert (reply.status, cors_headers(reply), reply.headers["vary"]) == (
        200,
        {
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "GET,POST",
            "access-control-allow-headers": "x-a",
            "access-control-max-age": "60",
        },
        "Origin",
    )
    assert front.echo.calls == []


async def test_other_origins_get_no_leave(front):
    host = await host_of(front, Cors=CORS)
    for origin in ("https://c.example", "https://a.example.evil", "https://x/.b.example"):
        headers = {"host": host, "origin": origin, "access-control-request-method": "POST"}
        assert cors_headers(await front.ask("OPTIONS", "/", headers=headers)) == {}
        reply = await front.ask("GET", "/", headers={"host": host, "origin": origin})
        assert (reply.status, cors_headers(reply)) == (200, {})


async def test_the_urls_headers_replace_the_functions(front):
    host = await host_of(front, Cors={"AllowOrigins": ["*"], "ExposeHeaders": ["x-b"]})
    returned = {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "https://mine", "x-b": "1"}}
    front.echo.returns = json.dumps(returned).encode()
    reply = await front.ask("GET", "/", headers={"host": host, "origin": "https://a.example"})
    assert cors_headers(reply) == {"access-control-allow-origin": "*", "access-control-expose-headers": "x-b"}
    assert reply.headers["x-b"] == "1"


async def test_without_cors_settings_the_function_answers_for_itself(front):
    host = await host_of(front)
    front.echo.returns = json.dumps({"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "o"}}).encode()
    headers = {"host": host, "origin": "https://a.example", "access-control-request-method": "GET"}
    reply = await front.ask("OPTIONS", "/", headers=headers)
    assert cors_headers(reply) == {"access-control-allow-origin": "o"}
    assert len(front.echo.calls) == 1
