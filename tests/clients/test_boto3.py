"""boto3 against the front: whole answers, errors as exceptions, waiters, paginators."""

import base64
import io
import json
import socket
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError, WaiterError

from clients.front import ROLE, package

ARN = "arn:aws:lambda:us-east-1:000000000000:function:my-function"


def create(client, name="my-function", **settings):
    return client.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=ROLE,
        Handler="lambda_function.lambda_handler",
        Code={"ZipFile": package()},
        **settings,
    )


@pytest.fixture
def function(client):
    create(client, SnapStart={"ApplyOn": "PublishedVersions"})
    client.get_waiter("function_active_v2").wait(FunctionName="my-function")


def test_publishing_with_snap_start(client, function):
    published = client.publish_version(FunctionName="my-function", Description="first")
    assert published["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (published["Version"], published["FunctionArn"]) == ("1", f"{ARN}:1")
    client.get_waiter("published_version_active").wait(FunctionName="my-function", Qualifier="1")
    again = client.publish_version(FunctionName="my-function")
    assert (again["Version"], again["Description"]) == ("1", "first")
    assert again["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}


def test_every_waiter_of_boto3(client, live):
    live.front.background.held = True
    create(client, SnapStart={"ApplyOn": "PublishedVersions"}, Publish=True)
    names = ["function_exists", "function_active", "function_active_v2", "function_updated", "function_updated_v2"]
    assert sorted([*names, "published_version_active"]) == sorted(client.waiter_names)
    quick = {"Delay": 0.01, "MaxAttempts": 3}
    client.get_waiter("function_exists").wait(FunctionName="my-function", WaiterConfig=quick)
    for name in ("function_active", "function_active_v2", "published_version_active"):
        with pytest.raises(WaiterError, match="Max attempts exceeded"):
            client.get_waiter(name).wait(FunctionName="my-function", Qualifier="1", WaiterConfig=quick)
    live.run(live.front.background.settle())
    for name in names:
        client.get_waiter(name).wait(FunctionName="my-function", WaiterConfig=quick)
    client.get_waiter("published_version_active").wait(FunctionName="my-function", Qualifier="1", WaiterConfig=quick)
    client.update_function_configuration(FunctionName="my-function", Timeout=9)
    for name in ("function_updated", "function_updated_v2"):
        with pytest.raises(WaiterError, match="Max attempts exceeded"):
            client.get_waiter(name).wait(FunctionName="my-function", WaiterConfig=quick)
    live.run(live.front.background.settle())
    for name in ("function_updated", "function_updated_v2"):
        client.get_waiter(name).wait(FunctionName="my-function", WaiterConfig=quick)
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        client.get_waiter("function_exists").wait(FunctionName="none", WaiterConfig=quick)


def test_a_waiter_ends_at_a_failed_version(client, live):
    create(client, SnapStart={"ApplyOn": "PublishedVersions"})
    client.get_waiter("function_active_v2").wait(FunctionName="my-function")
    live.front.background.fails = True
    client.publish_version(FunctionName="my-function")
    with pytest.raises(WaiterError, match='matched expected path: "Failed"'):
        client.get_waiter("published_version_active").wait(
            FunctionName="my-function", Qualifier="1", WaiterConfig={"Delay": 0.01}
        )


def test_invoking(client, function):
    answer = client.invoke(FunctionName=ARN, Payload=b'{"a": [1, 2]}', LogType="Tail")
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert answer["Payload"].read() == b'{"a": [1, 2]}'
    assert len(base64.b64decode(answer["LogResult"])) == 4096
    assert "FunctionError" not in answer
    failed = client.invoke(FunctionName="my-function", Payload=b'{"raise": "boom"}')
    assert failed["FunctionError"] == "Unhandled"
    assert client.invoke(FunctionName="my-function", InvocationType="DryRun")["StatusCode"] == 204


def test_streamed_answers(client, function):
    def stream(**more):
        answer = client.invoke_with_response_stream(FunctionName="my-function", **more)
        assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
        assert answer["ExecutedVersion"] == "$LATEST"
        return list(answer["EventStream"])

    (chunk, end) = stream(Payload='{"ü": 1}'.encode(), LogType="Tail")
    assert chunk == {"PayloadChunk": {"Payload": '{"ü": 1}'.encode()}}
    assert len(base64.b64decode(end["InvokeComplete"]["LogResult"])) == 4096
    largest = b'"' + b"x" * 6_291_454 + b'"'
    assert stream(Payload=largest)[0]["PayloadChunk"]["Payload"] == largest
    (failed,) = stream(Payload=b'{"raise": "boom"}')
    assert failed["InvokeComplete"]["ErrorCode"] == "Unhandled"
    assert json.loads(failed["InvokeComplete"]["ErrorDetails"])["errorMessage"] == "boom"
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.invoke_with_response_stream(FunctionName="nobody")


def test_asynchronous_calls(live, client, function):
    answer = client.invoke(FunctionName="my-function", InvocationType="Event", Payload=b"{}")
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    assert client.invoke_async(FunctionName="my-function", InvokeArgs=b"{}")["Status"] == 202
    assert len(live.front.echo.queued) == 2


def test_errors_are_the_clients_exceptions(client, function):
    with pytest.raises(client.exceptions.ResourceNotFoundException) as missing:
        client.get_function(FunctionName="my-function", Qualifier="7")
    assert missing.value.response["Error"]["Message"] == f"Function not found: {ARN}:7"
    assert missing.value.response["Type"] == "User"
    with pytest.raises(client.exceptions.ResourceConflictException):
        create(client)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Could not unzip uploaded file"):
        client.update_function_code(FunctionName="my-function", ZipFile=b"no zip")
    with pytest.raises(client.exceptions.PreconditionFailedException):
        client.publish_version(FunctionName="my-function", RevisionId="x")
    with pytest.raises(client.exceptions.InvalidRequestContentException):
        client.invoke(FunctionName="my-function", Payload=b"{")
    with pytest.raises(client.exceptions.RequestTooLargeException):
        client.invoke(FunctionName="my-function", Payload=b" " * 6_291_457)
    with pytest.raises(ClientError, match="not implemented by this server yet"):
        client.list_capacity_providers()


def test_a_payload_of_6_mb_goes_through(client, function):
    largest = b'"' + b"x" * 6_291_454 + b'"'
    assert client.invoke(FunctionName="my-function", Payload=io.BytesIO(largest))["Payload"].read() == largest


def test_updates_and_their_waiter(client, function):
    updated = client.update_function_configuration(FunctionName="my-function", Timeout=30)
    assert updated["LastUpdateStatus"] == "InProgress"
    client.get_waiter("function_updated_v2").wait(FunctionName="my-function")
    assert client.get_function_configuration(FunctionName="my-function")["Timeout"] == 30


def test_paginators_go_through_all_pages(client):
    for number in range(5):
        create(client, f"f{number}")
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    assert [item["FunctionName"] for page in pages for item in page["Functions"]] == [f"f{n}" for n in range(5)]


def test_weighted_aliases_reach_both_versions(client, function):
    client.publish_version(FunctionName="my-function")
    client.update_function_configuration(FunctionName="my-function", Timeout=30)
    client.get_waiter("function_updated_v2").wait(FunctionName="my-function")
    client.publish_version(FunctionName="my-function")
    for version in ("1", "2"):
        client.get_waiter("published_version_active").wait(FunctionName="my-function", Qualifier=version)
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    client.create_alias(FunctionName="my-function", Name="live", FunctionVersion="1", RoutingConfig=routing)
    executed = {client.invoke(FunctionName=f"{ARN}:live")["ExecutedVersion"] for _ in range(60)}
    assert executed == {"1", "2"}


def test_tags(client, function):
    client.tag_resource(Resource=ARN, Tags={"team": "büro", "stage": "test"})
    client.untag_resource(Resource=ARN, TagKeys=["stage"])
    assert client.list_tags(Resource=ARN)["Tags"] == {"team": "büro"}
    assert client.get_function(FunctionName="my-function")["Tags"] == {"team": "büro"}


def test_a_function_url_is_called(live, client, function):
    url = client.create_function_url_config(FunctionName="my-function", AuthType="NONE")["FunctionUrl"]
    host, port = live.url.removeprefix("http://").split(":")
    assert url.endswith(f".lambda-url.us-east-1.localhost:{port}/")
    # The name below "localhost" is resolved here as most systems do: to this machine.
    request = urllib.request.Request(f"{live.url}/a?b=c", b"body", {"Host": url.split("/")[2], "X-A": "b"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)
    assert (event["rawPath"], event["queryStringParameters"], event["headers"]["x-a"]) == ("/a", {"b": "c"}, "b")
    assert event["requestContext"]["http"]["sourceIp"] == host
    by_path = f"{live.url}/thaw/urls/{url.split('/')[2].split('.')[0]}/x"
    with urllib.request.urlopen(by_path) as answer:
        assert json.load(answer)["rawPath"] == "/x"
    client.delete_function_url_config(FunctionName="my-function")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(by_path)


def test_provisioned_concurrency(client):
    create(client, Publish=True)
    where = {"FunctionName": "my-function", "Qualifier": "1"}
    asked = client.put_provisioned_concurrency_config(**where, ProvisionedConcurrentExecutions=2)
    assert asked["Status"] == "IN_PROGRESS"
    ready = client.get_provisioned_concurrency_config(**where)
    assert (ready["Status"], ready["AvailableProvisionedConcurrentExecutions"]) == ("READY", 2)
    pages = client.get_paginator("list_provisioned_concurrency_configs").paginate(FunctionName="my-function")
    assert [one["FunctionArn"] for page in pages for one in page["ProvisionedConcurrencyConfigs"]] == [f"{ARN}:1"]
    client.delete_provisioned_concurrency_config(**where)
    with pytest.raises(client.exceptions.ProvisionedConcurrencyConfigNotFoundException):
        client.get_provisioned_concurrency_config(**where)


def test_times_of_asynchronous_settings_are_times(client, function):
    put = client.put_function_event_invoke_config(FunctionName="my-function", MaximumEventAgeInSeconds=60)
    assert put["LastModified"] == client.get_function_event_invoke_config(FunctionName="my-function")["LastModified"]
    assert put["LastModified"].year >= 2026


def test_layers(client):
    for _ in range(2):
        published = client.publish_layer_version(LayerName="lib", Content={"ZipFile": package()})
    arn = published["LayerVersionArn"]
    assert client.get_layer_version(LayerName="lib", VersionNumber=2)["Content"]["CodeSize"] == len(package())
    assert client.get_layer_version_by_arn(Arn=arn)["Version"] == 2
    with urllib.request.urlopen(published["Content"]["Location"]) as answer:
        assert answer.read() == package()
    pages = client.get_paginator("list_layer_versions").paginate(LayerName="lib", PaginationConfig={"PageSize": 1})
    assert [item["Version"] for page in pages for item in page["LayerVersions"]] == [2, 1]
    assert client.list_layers()["Layers"][0]["LatestMatchingVersion"]["LayerVersionArn"] == arn
    assert create(client, Layers=[arn])["Layers"] == [{"Arn": arn, "CodeSize": len(package())}]
    client.delete_layer_version(LayerName="lib", VersionNumber=2)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_layer_version(LayerName="lib", VersionNumber=2)


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /2015-03-31/functions/%zz%00%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{]",
        b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_raw_nonsense_is_answered_and_the_server_lives(live, client, function, request_head):
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request_head)
        assert connection.recv(100).startswith(b"HTTP/1.1 4")
    assert client.invoke(FunctionName="my-function")["StatusCode"] == 200


def test_a_client_that_goes_away_mid_request_harms_nobody(live, client, function):
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
    assert client.invoke(FunctionName="my-function")["StatusCode"] == 200
