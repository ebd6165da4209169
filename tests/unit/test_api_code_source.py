"""Code from S3: the real S3 client against a small server of objects."""

import base64
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from clients.front import Front, creation, package, path

NO_KEY = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"


@pytest.fixture
def s3(monkeypatch):
    """A server of {(path, version): content}; it remembers who asked."""
    objects, asked = {}, []

    class Objects(BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlsplit(self.path)
            version = parse_qs(address.query).get("versionId", [None])[0]
            asked.append(self.headers.get("authorization"))
            content = objects.get((address.path, version))
            self.send_response(404 if content is None else 200)
            body = NO_KEY.encode() if content is None else content
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    server.objects, server.asked = objects, asked
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
async def front(tmp_path, s3):
    opened = await Front.open(tmp_path, s3_endpoint=s3.url)
    yield opened
    await opened.settled()
    await opened.catalog.close()


def sha256(content):
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


async def test_functions_and_layers_take_their_code_from_s3(front, s3):
    s3.objects["/bucket/a/code.zip", None] = package()
    s3.objects["/bucket/a/code.zip", "v2"] = package(b"x = 2\n")
    code = {"S3Bucket": "bucket", "S3Key": "a/code.zip"}
    created = (await front.function(Code=code)).json
    assert (created["CodeSha256"], created["CodeSize"]) == (sha256(package()), len(package()))
    updated = (await front.ask("PUT", path("f", "/code"), {**code, "S3ObjectVersion": "v2"})).json
    assert updated["CodeSha256"] == sha256(package(b"x = 2\n"))
    layer = await front.ask("POST", "/2018-10-31/layers/l/versions", {"Content": code})
    assert layer.json["Content"]["CodeSha256"] == sha256(package())
    assert s3.asked == [None] * 3


async def test_requests_are_signed_where_there_are_credentials(front, s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    s3.objects["/bucket/k", None] = package()
    await front.function(Code={"S3Bucket": "bucket", "S3Key": "k"})
    assert s3.asked[0].startswith("AWS4-HMAC-SHA256 Credential=KEY/")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            {"S3Bucket": "bucket", "S3Key": "none"},
            "Error occurred while GetObject. S3 Error Code: NoSuchKey. "
            "S3 Error Message: The specified key does not exist.",
        ),
        (
            {"S3Bucket": "bucket"},
            "Code in S3 needs both S3Bucket and S3Key: add the one that is missing.",
        ),
        (
            {"S3Bucket": "bucket", "S3Key": "k", "ZipFile": "eA=="},
            "Please do not provide other FunctionCode parameters when providing a ZipFile.",
        ),
        (
            {"S3Bucket": "bucket", "S3Key": "k", "S3ObjectStorageMode": "REFERENCE"},
            "S3ObjectStorageMode REFERENCE is not supported by this server: use COPY.",
        ),
    ],
)
async def test_code_that_cannot_be_had(front, code, message):
    reply = await front.ask("POST", "/2015-03-31/functions", creation(Code=code))
    assert reply.error == (400, "InvalidParameterValueException", message)


async def test_a_server_that_does_not_answer_is_named(front, s3):
    url = s3.url
    s3.shutdown()
    s3.socket.close()
    reply = await front.ask("POST", "/2015-03-31/functions", creation(Code={"S3Bucket": "bucket", "S3Key": "k"}))
    assert reply.error[:2] == (500, "ServiceException")
    assert reply.error[2].startswith(f"The S3 server {url} did not give s3://bucket/k (")
    assert (await front.ask("GET", path("f"))).status == 404


async def test_an_image_for_a_function_of_a_zip(front):
    await front.function()
    reply = await front.ask("PUT", path("f", "/code"), {"ImageUri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/i:1"})
    assert reply.error[2] == "Please don't provide ImageUri when updating a function with packageType Zip."
