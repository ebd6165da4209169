"""A server that knows access keys, and real clients with the right ones, wrong ones and none."""

import os
import subprocess

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from clients.conftest import LiveFront, aws_program
from clients.front import REGION, ROLE, package


@pytest.fixture
def guarded(tmp_path):
    keys = tmp_path / "credentials"
    keys.write_text("[default]\naws_access_key_id = KEY\naws_secret_access_key = secret/+=\n")
    server = LiveFront(tmp_path, credentials_file=keys)
    server.start()
    yield server
    server.stop()


def client_of(server, key="KEY", secret="secret/+=", **options):
    config = Config(retries={"total_max_attempts": 1}, **options)
    keys = {"aws_access_key_id": key, "aws_secret_access_key": secret}
    return boto3.client("lambda", endpoint_url=server.url, region_name=REGION, config=config, **keys)


def test_boto3_with_the_right_key(guarded):
    client = client_of(guarded)
    arn = client.create_function(
        FunctionName="f", Runtime="python3.13", Role=ROLE, Handler="a.b", Code={"ZipFile": package()}, Publish=True
    )["FunctionArn"]
    client.get_waiter("function_active_v2").wait(FunctionName=arn)
    answer = client.invoke(FunctionName=f"{arn}:1", Payload='{"ü": " + "}', LogType="Tail", ClientContext="e30=")
    assert answer["StatusCode"] == 200
    client.tag_resource(Resource=arn, Tags={"a b": "c"})
    client.untag_resource(Resource=arn, TagKeys=["a b", "ü/+"])
    assert client.list_versions_by_function(FunctionName="f", MaxItems=1)["NextMarker"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"secret": "other"}, "InvalidSignatureException"),
        ({"key": "OTHER"}, "UnrecognizedClientException"),
        ({"signature_version": UNSIGNED}, "MissingAuthenticationTokenException"),
    ],
)
def test_boto3_with_a_wrong_key_or_none(guarded, options, code):
    with pytest.raises(ClientError) as refused:
        client_of(guarded, **options).list_functions()
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(("secret", "expected"), [("secret/+=", '"Functions": []'), ("x", "InvalidSignatureException")])
def test_the_aws_cli(guarded, tmp_path, secret, expected):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "KEY",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_PAGER": "",
    }
    command = [aws_program(), "--endpoint-url", guarded.url, "lambda", "list-functions"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert expected in done.stdout + done.stderr
