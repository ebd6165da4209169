"""Signature Version 4: requests that botocore signs, and every way in which one can be wrong."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from clients.front import ACCOUNT, REGION, Front, creation, path
from thaw.api.signatures import check_exposure, read_access_keys
from thaw.errors import ConfigurationError

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
ENDPOINT = "http://thaw.test:3001"
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


@pytest.fixture
async def front(tmp_path):
    keys = tmp_path / "credentials"
    keys.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    opened = await Front.open(tmp_path, credentials_file=keys)
    yield opened
    await opened.settled()
    await opened.catalog.close()


def signed(method, place, *, body=b"", query="", headers=None, secret=SECRET, region=REGION, service="lambda", key=KEY):
    """The headers of a request as botocore signs it."""
    url = f"{ENDPOINT}{place}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, data=body, headers={"host": "thaw.test:3001", **(headers or {})})
    SigV4Auth(Credentials(key, secret), service, region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


async def ask(front, method, place, *, body=b"", query="", **signing):
    headers = signed(method, place, body=body, query=query, **signing)
    return await front.ask(method, place, headers=headers, query=query, body=body)


@pytest.mark.parametrize(
    ("place", "query"),
    [
        ("/2015-03-31/functions", ""),
        ("/2015-03-31/functions", "MaxItems=2&FunctionVersion=ALL"),
        ("/2015-03-31/functions", "Marker=a%2Bb%2Fc%3D&MaxItems=2"),
        ("/2015-03-31/functions/f%3A1", ""),
        (f"/2015-03-31/functions/arn%3Aaws%3Alambda%3A{REGION}%3A{ACCOUNT}%3Afunction%3Af", ""),
    ],
)
async def test_what_botocore_signs_is_taken(front, place, query):
    reply = await ask(front, "GET", place, query=query)
    assert reply.status in (200, 400, 404)
    assert "Signature" not in reply.headers.get("x-amzn-errortype", "")


async def test_a_body_and_every_signed_header_are_covered(front):
    body = b'{"a": "\xc3\xbc"}'
    for large in (body, b'"' + b"x" * (1 << 21) + b'"'):
        reply = await ask(front, "POST", path("f", "/invocations"), body=large, headers={"x-amz-log-type": "Tail"})
        assert reply.error[:2] == (404, "ResourceNotFoundException")
    headers = signed("POST", path("f", "/invocations"), body=body, headers={"x-amz-log-type": "Tail"})
    for changed in (
        {"headers": headers, "body": b"{}"},
        {"headers": headers | {"x-amz-log-type": "None"}, "body": body},
        {"headers": headers | {"host": "other.test"}, "body": body},
        {"headers": headers, "body": body, "query": "Qualifier=1"},
        {"headers": headers | {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, "body": body},
    ):
        reply = await front.ask("POST", path("f", "/invocations"), **changed)
        assert reply.error == (403, "InvalidSignatureException", MISMATCH)
    other = await front.ask("POST", path("g", "/invocations"), headers=headers, body=body)
    assert other.error == (403, "InvalidSignatureException", MISMATCH)


async def test_a_header_sent_twice_and_spaces_are_signed_as_one(front):
    sent = signed("GET", "/2015-03-31/functions", headers={"x-amz-b": "1,two  words"})
    twice = [(name, value) for name, value in sent.items() if name != "x-amz-b"]
    twice += [("x-amz-b", "1"), ("x-amz-b", " two  words ")]
    assert (await front.ask("GET", "/2015-03-31/functions", headers=twice)).status == 200


@pytest.mark.parametrize(
    ("signing", "code", "message"),
    [
        ({"secret": "other"}, "InvalidSignatureException", MISMATCH),
        (
            {"key": "NOBODY"},
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        ({"region": "eu-west-1"}, "InvalidSignatureException", "Credential should be scoped to a valid region."),
        (
            {"service": "s3"},
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'lambda'.",
        ),
    ],
)
async def test_other_keys_regions_and_services(front, signing, code, message):
    assert (await ask(front, "GET", "/2015-03-31/functions", **signing)).error == (403, code, message)


@pytest.mark.parametrize("minutes", [-6, 6, -60 * 24])
async def test_a_clock_that_is_off(front, monkeypatch, minutes):
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    status, code, message = (await ask(front, "GET", "/2015-03-31/functions")).error
    assert (status, code) == (403, "InvalidSignatureException")
    text = moment.strftime("%Y%m%dT%H%M%SZ")
    late = f"Signature expired: {text} is now earlier than " if minutes < 0 else f"Signature not yet current: {text} is"
    assert message.startswith(late)


async def test_a_clock_that_is_a_little_off(front, monkeypatch):
    moment = datetime.now(UTC) + timedelta(minutes=4)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    assert (await ask(front, "GET", "/2015-03-31/functions")).status == 200


async def test_unsigned_requests(front):
    for method, place in (("GET", "/2015-03-31/functions"), ("POST", "/2015-03-31/functions"), ("GET", "/nothing")):
        reply = await front.ask(method, place, creation() if method == "POST" else None)
        assert reply.error == (403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    assert await front.catalog.functions() == []


def altered(headers, **changes):
    authorization = headers["authorization"]
    for before, after in changes.get("replace", ()):
        assert before in authorization
        authorization = authorization.replace(before, after)
    return {**headers, "authorization": authorization}


async def test_claims_that_are_not_whole(front):
    headers = signed("GET", "/2015-03-31/functions")
    day = headers["x-amz-date"][:8]
    undated = {name: value for name, value in headers.items() if name != "x-amz-date"}
    cases = [
        ({**headers, "authorization": "Bearer x"}, "IncompleteSignatureException"),
        ({**headers, "authorization": "AWS4-HMAC-SHA256 Credential=a"}, "IncompleteSignatureException"),
        (altered(headers, replace=[("/aws4_request", "/aws4")]), "IncompleteSignatureException"),
        (altered(headers, replace=[(f"{KEY}/", "")]), "IncompleteSignatureException"),
        (altered(headers, replace=[(f"/{day}/", "/20200101/")]), "InvalidSignatureException"),
        (altered(headers, replace=[("host;x-amz-date", "host")]), "InvalidSignatureException"),
        (altered(headers, replace=[("host;x-amz-date", "x-amz-date")]), "InvalidSignatureException"),
        (undated, "IncompleteSignatureException"),
        ({**headers, "x-amz-date": f"{day}T1"}, "IncompleteSignatureException"),
    ]
    for given, code in cases:
        reply = await front.ask("GET", "/2015-03-31/functions", headers=given)
        assert reply.error[:2] == (403, code), given
        assert SECRET not in reply.error[2]


# --- presigned URLs --------------------------------------------------------------------------------------------------


def presigned(place, *, query="", expires=60, secret=SECRET, region=REGION, method="GET"):
    """The query of a URL as botocore signs it."""
    url = f"{ENDPOINT}{place}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url)
    SigV4QueryAuth(Credentials(KEY, secret), "lambda", region, expires=expires).add_auth(request)
    return urlsplit(request.url).query


@pytest.mark.parametrize("query", ["", "MaxItems=2&FunctionVersion=ALL"])
async def test_a_presigned_url_is_taken(front, query):
    reply = await front.ask("GET", "/2015-03-31/functions", query=presigned("/2015-03-31/functions", query=query))
    assert (reply.status, reply.json["Functions"]) == (200, [])


async def test_a_presigned_url_is_good_for_what_was_signed_only(front):
    place = "/2015-03-31/functions"
    good = presigned(place, query="MaxItems=2")
    wrong = [
        (place, good.replace("MaxItems=2", "MaxItems=3")),
        (place, good + "&FunctionVersion=ALL"),
        (place, presigned(place, secret="other")),
        (place, good.replace("X-Amz-Expires=60", "X-Amz-Expires=600")),
        (path("f"), good),
    ]
    for asked, query in wrong:
        reply = await front.ask("GET", asked, query=query)
        assert reply.error == (403, "InvalidSignatureException", MISMATCH), query
    region = await front.ask("GET", place, query=presigned(place, region="eu-west-1"))
    assert region.error == (403, "InvalidSignatureException", "Credential should be scoped to a valid region.")
    posted = await front.ask("POST", path("f", "/invocations"), query=presigned(place), body=b"{}")
    assert posted.error[:2] == (403, "InvalidSignatureException")


@pytest.mark.parametrize(
    ("age_s", "expires", "text"),
    [(61, 60, "Signature expired: "), (86500, 86400, "Signature expired: "), (-360, 60, "Signature not yet current: ")],
)
async def test_a_presigned_url_ends_when_it_says(front, monkeypatch, age_s, expires, text):
    place = "/2015-03-31/functions"
    moment = datetime.now(UTC) - timedelta(seconds=age_s)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    reply = await front.ask("GET", place, query=presigned(place, expires=expires))
    assert reply.error[:2] == (403, "InvalidSignatureException")
    assert reply.error[2].startswith(text)
    if age_s > 0:
        assert reply.error[2].endswith(f" - {expires // 60} min.)")
        kept = await front.ask("GET", place, query=presigned(place, expires=expires + 3600))
        assert kept.status == 200


async def test_presigned_urls_that_are_not_whole(front):
    place = "/2015-03-31/functions"
    good = presigned(place)
    message = (
        "AWS query-string parameters must include 'X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Signature', "
        "'X-Amz-SignedHeaders' and 'X-Amz-Date'. Re-examine the query-string parameters."
    )
    for name in ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"):
        left = "&".join(part for part in good.split("&") if not part.startswith(f"{name}="))
        assert (await front.ask("GET", place, query=left)).error == (403, "IncompleteSignatureException", message)
    for expires in ("0", "604801", "x", "-1", "9" * 400):
        reply = await front.ask("GET", place, query=good.replace("X-Amz-Expires=60", f"X-Amz-Expires={expires}"))
        message = f"X-Amz-Expires must be a number of seconds, from 1 to 604800: got '{expires[:20]}'."
        assert reply.error == (403, "IncompleteSignatureException", message)
    unhosted = good.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=accept")
    reply = await front.ask("GET", place, query=unhosted)
    assert reply.error[:2] == (403, "InvalidSignatureException")
    assert reply.error[2] == "'host' must be a 'SignedHeader' in the AWS Authorization."


# --- what needs no signature -----------------------------------------------------------------------------------------


async def test_urls_and_links_have_leave_of_their_own(front):
    whole = json.dumps(creation()).encode()
    assert (await ask(front, "POST", "/2015-03-31/functions", body=whole)).status == 201
    await front.settled()
    body = b'{"AuthType": "NONE"}'
    url = (await ask(front, "POST", "/2021-10-31/functions/f/url", body=body)).json["FunctionUrl"]
    host = {"host": urlsplit(url).netloc}
    assert (await front.ask("GET", "/", headers=host)).status == 200
    location = urlsplit((await ask(front, "GET", path("f"))).json["Code"]["Location"])
    assert (await front.ask("GET", location.path, query=location.query)).status == 200
    assert (await ask(front, "PUT", "/2021-10-31/functions/f/url", body=b'{"AuthType": "AWS_IAM"}')).status == 200
    refused = await front.ask("GET", "/", headers=host)
    assert (refused.status, refused.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")
    assert refused.json["Message"].startswith("Forbidden. For troubleshooting Function URL authorization issues")
    taken = await front.ask("GET", "/a", headers=signed("GET", "/a", headers=host))
    assert taken.status == 200


# --- settings --------------------------------------------------------------------------------------------------------


def test_several_keys_of_a_credentials_file(tmp_path):
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id=A\naws_secret_access_key=x%y\n[b]\naws_access_key_id=B\n"
        "aws_secret_access_key=z\naws_session_token=t\n[c]\nregion=r\n"
    )
    assert read_access_keys(file) == {"A": "x%y", "B": "z"}


@pytest.mark.parametrize("content", [None, "", "[a]\naws_access_key_id=A\n", "geheim\n", b"\xff\xfe"])
def test_an_unusable_credentials_file_is_refused_without_its_content(tmp_path, content):
    file = tmp_path / "credentials"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        read_access_keys(file)
    assert str(file) in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.5.5.5", "no.such.host.invalid"])
def test_loopback_needs_no_credentials(host):
    check_exposure(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_everything_else_needs_them(host):
    with pytest.raises(ConfigurationError, match="set THAW_CREDENTIALS_FILE"):
        check_exposure(host, None)
    check_exposure(host, Path("credentials"))
