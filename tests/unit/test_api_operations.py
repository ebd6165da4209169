"""The operations over the ASGI application, with the parts below it standing still or failing as a test wants."""

import base64
import json
import logging

import pytest

from clients.front import ROLE, Front, creation, package, path
from thaw.api.application import UNREADABLE_PACKAGE
from thaw.api.http import INVOKE_LIMIT, REQUEST_LIMIT
from thaw.api.invocation import EVENT_LIMIT
from thaw.api.protocol.model import lambda_model
from thaw.errors import RuntimeNotFound, ServiceError, StoreUnavailable

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
SNAP = {"SnapStart": {"ApplyOn": "PublishedVersions"}}


@pytest.fixture
async def front(tmp_path):
    opened = await Front.open(tmp_path)
    yield opened
    await opened.settled()
    await opened.catalog.close()


def zip_of(source):
    return base64.b64encode(package(source)).decode()


async def invoke(front, name="f", event=None, **where):
    return await front.ask("POST", path(name, "/invocations"), event, **where)


async def configuration(front, name="f", qualifier=None):
    query = {"Qualifier": qualifier} if qualifier else {}
    return (await front.ask("GET", path(name, "/configuration"), query=query)).json


async def publish(front, name="f", **members):
    reply = await front.ask("POST", path(name, "/versions"), members)
    await front.settled()
    return reply


# --- functions -------------------------------------------------------------------------------------------------------


async def test_a_created_function_is_pending_and_becomes_active(front):
    front.background.held = True
    reply = await front.ask("POST", "/2015-03-31/functions", creation(**SNAP))
    created = reply.json
    assert reply.status == 201
    assert (created["State"], created["StateReason"], created["StateReasonCode"]) == (
        "Pending",
        "The function is being created.",
        "Creating",
    )
    assert "LastUpdateStatus" not in created
    assert created["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    assert (created["FunctionArn"], created["Version"], created["CodeSize"]) == (ARN, "$LATEST", len(package()))
    assert created["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"}
    assert (created["Timeout"], created["MemorySize"], created["EphemeralStorage"]) == (3, 128, {"Size": 512})
    assert created["TracingConfig"] == {"Mode": "PassThrough"}
    assert "Environment" not in created
    await front.background.settle()
    active = await configuration(front)
    assert (active["State"], active["LastUpdateStatus"], active["SnapStart"]["OptimizationStatus"]) == (
        "Active",
        "Successful",
        "Off",
    )
    assert "StateReason" not in active


async def test_snap_start_is_shown_also_where_it_was_never_set(front):
    created = (await front.function()).json
    assert created["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}


async def test_creating_with_publish_answers_version_1_under_the_functions_arn(front):
    front.background.held = True
    created = (await front.ask("POST", "/2015-03-31/functions", creation(Publish=True, **SNAP))).json
    assert (created["Version"], created["State"], created["FunctionArn"]) == ("1", "Pending", ARN)
    await front.background.settle()
    ready = await configuration(front, qualifier="1")
    assert (ready["State"], ready["SnapStart"]["OptimizationStatus"], ready["FunctionArn"]) == (
        "Active",
        "On",
        f"{ARN}:1",
    )


async def test_all_settings_come_back(front):
    settings = {
        "Description": "d",
        "Timeout": 900,
        "MemorySize": 10240,
        "EphemeralStorage": {"Size": 10240},
        "Environment": {"Variables": {"AA": "1"}},
        "TracingConfig": {"Mode": "Active"},
        "Architectures": ["arm64"],
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
        "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
        "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k",
        "Role": ROLE,
        "Runtime": "python3.13",
        "Handler": "lambda_function.lambda_handler",
    }
    logging_config = {"LogFormat": "JSON", "LogGroup": "/my/logs"}
    created = (await front.function(**settings, LoggingConfig=logging_config, Tags={"team": "a"})).json
    vpc = {**settings.pop("VpcConfig"), "VpcId": "", "Ipv6AllowedForDualStack": False}
    assert {name: created[name] for name in settings} == settings
    assert created["VpcConfig"] == vpc
    assert created["LoggingConfig"] == {**logging_config, "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    assert (await front.ask("GET", path("f"))).json["Tags"] == {"team": "a"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"Handler": None},
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
        ),
        ({"Code": {}}, "Please provide a source for function code."),
        (
            {"Code": {"S3Bucket": "bucket", "S3Key": "k"}},
            "This server has no S3 endpoint to read code from: set THAW_S3_ENDPOINT, or send the code as ZipFile.",
        ),
        (
            {"MemorySize": 10241},
            "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240",
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x"}}},
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. "
            "Reserved keys used in this request: AWS_REGION",
        ),
        (
            {"Runtime": "cobol"},
            "Value cobol at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(lambda_model().shapes['Runtime']['enum'])}] or be a valid ARN",
        ),
        (
            {"EphemeralStorage": {"Size": 513}, **SNAP},
            "Ephemeral storage size greater than 512 MB is not supported for SnapStart enabled functions.",
        ),
        (
            {"ImageConfig": {"Command": ["x"]}},
            "ImageConfig is not supported by this server: leave it out of the request.",
        ),
        ({"Code": {"ZipFile": base64.b64encode(b"no zip").decode()}}, UNREADABLE_PACKAGE),
        (
            {"Code": {"ImageUri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/i:1"}, "PackageType": "Image"},
            "Container images are not supported by this server: send the code as ZipFile.",
        ),
        ({"PackageType": "Image"}, "PackageType Image is not supported by this server: use Zip."),
        (
            {"LoggingConfig": {"LogFormat": "Text", "ApplicationLogLevel": "DEBUG"}},
            'LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change '
            'the LogFormat to "JSON" and try again.',
        ),
        (
            {"DeadLetterConfig": {"TargetArn": "arn:aws:s3:::b"}},
            "The dead-letter target arn:aws:s3:::b is neither a queue (SQS), a topic (SNS) nor a function: "
            "name one of these.",
        ),
    ],
)
async def test_a_function_that_lambda_would_not_take(front, members, message):
    reply = await front.ask("POST", "/2015-03-31/functions", creation(**members))
    assert reply.error == (400, "InvalidParameterValueException", message)
    assert (await front.ask("GET", path("f"))).status == 404


@pytest.mark.parametrize(
    ("members", "failure"),
    [
        ({"Timeout": 901}, "Value '901' at 'timeout' failed to satisfy constraint: {} 900"),
        (
            {"EphemeralStorage": {"Size": 10241}},
            "Value '10241' at 'ephemeralStorage.size' failed to satisfy constraint: {} 10240",
        ),
    ],
)
async def test_limits_of_ordinary_functions_are_narrower_than_the_models(front, members, failure):
    reply = await front.ask("POST", "/2015-03-31/functions", creation(**members))
    expected = failure.format("Member must have value less than or equal to")
    assert reply.error == (400, "ValidationException", f"1 validation error detected: {expected}")


async def test_an_environment_beyond_4_kb_is_refused(front):
    reply = await front.ask("POST", "/2015-03-31/functions", creation(Environment={"Variables": {"AA": "x" * 4096}}))
    assert "you have provided exceeded the 4KB limit. String measured: {" in reply.error[2]


async def test_function_names_are_taken_once(front):
    await front.function()
    reply = await front.ask("POST", "/2015-03-31/functions", creation())
    assert reply.error == (409, "ResourceConflictException", "Function already exist: f")


async def test_get_function_gives_a_link_that_downloads_the_code(front):
    await front.function()
    document = (await front.ask("GET", path("f"))).json
    assert document["Configuration"]["FunctionName"] == "f"
    location = document["Code"]["Location"]
    assert location.startswith("http://thaw.test:3001/")
    place, _, query = location.removeprefix("http://thaw.test:3001").partition("?")
    parameters = dict(pair.split("=") for pair in query.split("&"))
    assert (await front.ask("GET", place, query=parameters)).body == package()
    forged = {**parameters, "expires": str(int(parameters["expires"]) + 1)}
    assert (await front.ask("GET", place, query=forged)).error[:2] == (403, "AccessDeniedException")
    assert (await front.ask("GET", place)).error[:2] == (403, "AccessDeniedException")
    assert (await front.ask("GET", place.replace("/f/", "/g/"), query=parameters)).status == 404


@pytest.mark.parametrize(
    ("name", "query", "shown"),
    [
        ("f", {}, ARN),
        (ARN, {}, ARN),
        ("000000000000:function:f", {}, ARN),
        ("f:1", {}, f"{ARN}:1"),
        (f"{ARN}:1", {}, f"{ARN}:1"),
        ("f", {"Qualifier": "1"}, f"{ARN}:1"),
        ("f:1", {"Qualifier": "1"}, f"{ARN}:1"),
        ("f", {"Qualifier": "live"}, f"{ARN}:live"),
        ("f:$LATEST", {}, f"{ARN}:$LATEST"),
    ],
)
async def test_functions_are_named_in_every_form(front, name, query, shown):
    await front.function()
    await publish(front)
    await front.ask("POST", path("f", "/aliases"), {"Name": "live", "FunctionVersion": "1"})
    reply = await front.ask("GET", path(name, "/configuration"), query=query)
    assert (reply.status, reply.json["FunctionArn"]) == (200, shown)


@pytest.mark.parametrize(
    ("name", "query", "error"),
    [
        ("g", {}, (404, "ResourceNotFoundException", f"Function not found: {ARN[:-1]}g")),
        ("f", {"Qualifier": "7"}, (404, "ResourceNotFoundException", f"Function not found: {ARN}:7")),
        (
            "f:1",
            {"Qualifier": "2"},
            (
                400,
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified qualifier.",
            ),
        ),
        (
            ARN.replace("us-east-1", "eu-west-1"),
            {},
            (
                404,
                "ResourceNotFoundException",
                "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
            ),
        ),
    ],
)
async def test_names_that_lead_nowhere(front, name, query, error):
    await front.function()
    assert (await front.ask("GET", path(name, "/configuration"), query=query)).error == error


async def test_an_update_is_in_progress_first(front):
    await front.function()
    front.background.held = True
    reply = await front.ask("PUT", path("f", "/configuration"), {"Timeout": 9, **SNAP})
    updating = reply.json
    assert (reply.status, updating["Timeout"], updating["State"]) == (200, 9, "Active")
    assert (
        updating["LastUpdateStatus"],
        updating["LastUpdateStatusReason"],
        updating["LastUpdateStatusReasonCode"],
    ) == ("InProgress", "The function is being created.", "Creating")
    busy = await front.ask("PUT", path("f", "/configuration"), {"Timeout": 10})
    assert busy.error == (
        409,
        "ResourceConflictException",
        f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}",
    )
    await front.background.settle()
    assert (await configuration(front))["LastUpdateStatus"] == "Successful"


async def test_an_update_keeps_what_it_does_not_name(front):
    await front.function(Timeout=7, Environment={"Variables": {"AA": "1"}}, Description="d")
    await front.ask("PUT", path("f", "/configuration"), {"Description": ""})
    await front.settled()
    after = await configuration(front)
    assert (after["Timeout"], after["Environment"], after["Description"]) == (7, {"Variables": {"AA": "1"}}, "")
    await front.ask("PUT", path("f", "/configuration"), {"Environment": {"Variables": {}}})
    await front.settled()
    assert "Environment" not in await configuration(front)


async def test_snap_start_constraints_look_at_the_result_of_an_update(front):
    await front.function(EphemeralStorage={"Size": 1024})
    reply = await front.ask("PUT", path("f", "/configuration"), SNAP)
    assert reply.error[1] == "InvalidParameterValueException"
    assert (await configuration(front))["SnapStart"]["ApplyOn"] == "None"


async def test_updates_are_for_latest_only(front):
    await front.function()
    reply = await front.ask("PUT", path("f:1", "/configuration"), {"Timeout": 9})
    assert reply.error[1] == "InvalidParameterValueException"
    assert "Aliases and versions do not support this operation" in reply.error[2]


async def test_a_revision_guards_updates(front):
    await front.function()
    revision = (await configuration(front))["RevisionId"]
    stale = {"RevisionId": "00000000-0000-0000-0000-000000000000"}
    for rest, members in (("/configuration", {"Timeout": 9}), ("/code", {"ZipFile": zip_of(b"x = 1")})):
        assert (await front.ask("PUT", path("f", rest), {**members, **stale})).error[:2] == (
            412,
            "PreconditionFailedException",
        )
    reply = await front.ask("PUT", path("f", "/configuration"), {"Timeout": 9, "RevisionId": revision})
    assert reply.status == 200
    await front.settled()
    assert (await configuration(front))["RevisionId"] != revision


async def test_new_code(front):
    before = (await front.function()).json
    reply = await front.ask("PUT", path("f", "/code"), {"ZipFile": zip_of(b"x = 1"), "Architectures": ["arm64"]})
    assert reply.json["CodeSha256"] != before["CodeSha256"]
    assert (reply.json["LastUpdateStatus"], reply.json["Architectures"]) == ("InProgress", ["arm64"])
    await front.settled()
    assert (await configuration(front))["CodeSha256"] == reply.json["CodeSha256"]


async def test_a_dry_run_of_new_code_changes_nothing(front):
    await front.function()
    before = await configuration(front)
    reply = await front.ask("PUT", path("f", "/code"), {"ZipFile": zip_of(b"x = 1"), "DryRun": True})
    assert reply.status == 200
    assert reply.json["CodeSha256"] != before["CodeSha256"]
    assert await configuration(front) == before


async def test_code_that_cannot_be_unpacked_leaves_the_function_as_it_was(front):
    await front.function()
    before = await configuration(front)
    reply = await front.ask("PUT", path("f", "/code"), {"ZipFile": base64.b64encode(b"no zip").decode()})
    assert reply.error == (400, "InvalidParameterValueException", UNREADABLE_PACKAGE)
    assert await configuration(front) == before


async def test_new_code_with_publish_answers_the_pending_version(front):
    await front.function()
    front.background.held = True
    reply = await front.ask("PUT", path("f", "/code"), {"ZipFile": zip_of(b"x = 1"), "Publish": True})
    version = reply.json
    assert (version["FunctionArn"], version["Version"], version["State"]) == (f"{ARN}:1", "1", "Pending")
    assert "LastUpdateStatus" not in version
    await front.background.settle()
    assert (await configuration(front, qualifier="1"))["State"] == "Active"


async def test_functions_are_listed_page_by_page_without_states(front):
    for number in range(3):
        await front.function(f"f{number}")
    first = (await front.ask("GET", "/2015-03-31/functions/", query={"MaxItems": 2})).json
    assert [item["FunctionName"] for item in first["Functions"]] == ["f0", "f1"]
    assert not {"State", "LastUpdateStatus"} & first["Functions"][0].keys()
    rest = {"MaxItems": 2, "Marker": first["NextMarker"]}
    second = (await front.ask("GET", "/2015-03-31/functions", query=rest)).json
    assert [item["FunctionName"] for item in second["Functions"]] == ["f2"]
    assert "NextMarker" not in second


@pytest.mark.parametrize("marker", ["x", "é", "////", base64.urlsafe_b64encode(b'["f",99999999999999999999]').decode()])
async def test_a_marker_that_nobody_gave_is_refused(front, marker):
    reply = await front.ask("GET", "/2015-03-31/functions", query={"Marker": marker})
    assert reply.error == (400, "InvalidParameterValueException", "Invalid marker.")


async def test_deleting(front):
    await front.function()
    await publish(front)
    assert (await front.ask("DELETE", path("f"), query={"Qualifier": "1"})).status == 204
    assert (await front.ask("DELETE", path("f"), query={"Qualifier": "1"})).status == 204
    assert front.background.deletions == [("f", "1")]
    assert (await configuration(front))["Version"] == "$LATEST"
    assert (await front.ask("DELETE", path("f"), query={"Qualifier": "$LATEST"})).error[0] == 400
    assert (await front.ask("DELETE", path("f"), query={"Qualifier": "live"})).error == (
        400,
        "InvalidParameterValueException",
        "Deletion of aliases is not currently supported.",
    )
    reply = await front.ask("DELETE", path("f"))
    assert (reply.status, reply.body) == (204, b"")
    assert (await front.ask("DELETE", path("f"))).error[:2] == (404, "ResourceNotFoundException")


# --- versions --------------------------------------------------------------------------------------------------------


async def test_publishing_with_snap_start_goes_from_pending_to_on(front):
    await front.function(**SNAP)
    front.background.held = True
    reply = await front.ask("POST", path("f", "/versions"))
    version = reply.json
    assert reply.status == 201
    assert (version["Version"], version["State"], version["StateReasonCode"]) == ("1", "Pending", "Creating")
    assert "LastUpdateStatus" not in version
    assert version["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    assert (await invoke(front, "f:1", {})).error == (
        409,
        "ResourceConflictException",
        "The operation cannot be performed at this time. The function is currently in the following state: Pending",
    )
    await front.background.settle()
    ready = await configuration(front, qualifier="1")
    assert (ready["State"], ready["LastUpdateStatus"], ready["SnapStart"]["OptimizationStatus"]) == (
        "Active",
        "Successful",
        "On",
    )
    assert (await configuration(front))["SnapStart"]["OptimizationStatus"] == "Off"
    assert (await invoke(front, "f:1", {})).status == 200


async def test_a_failed_snapshot_is_visible(front):
    front.background.fails = True
    await front.function(**SNAP)
    await publish(front)
    failed = await configuration(front, qualifier="1")
    assert (failed["State"], failed["StateReasonCode"], failed["StateReason"], failed["LastUpdateStatus"]) == (
        "Failed",
        "FunctionError",
        "An error occurred during function initialization.",
        "Failed",
    )
    assert (await invoke(front, "f:1", {})).error[:2] == (409, "ResourceConflictException")


async def test_publishing_an_unchanged_function_answers_the_same_version(front):
    await front.function()
    first = await publish(front, Description="one")
    again = await publish(front, Description="two")
    assert (again.status, again.json) == (201, first.json)
    assert first.json["Description"] == "one"


async def test_versions_are_listed_with_qualified_arns(front):
    await front.function()
    await publish(front)
    listed = (await front.ask("GET", path("f", "/versions"), query={"MaxItems": 10000})).json["Versions"]
    assert [item["FunctionArn"] for item in listed] == [f"{ARN}:$LATEST", f"{ARN}:1"]
    assert not {"State", "StateReason", "LastUpdateStatus"} & listed[1].keys()
    page = (await front.ask("GET", path("f", "/versions"), query={"MaxItems": 1})).json
    rest = await front.ask("GET", path("f", "/versions"), query={"MaxItems": 1, "Marker": page["NextMarker"]})
    assert [item["Version"] for item in rest.json["Versions"]] == ["1"]


# --- aliases ---------------------------------------------------------------------------------------------------------


async def two_versions(front):
    await front.function()
    await publish(front)
    await front.ask("PUT", path("f", "/configuration"), {"Timeout": 9})
    await front.settled()
    await publish(front)


async def test_an_alias_from_creation_to_deletion(front):
    await two_versions(front)
    created = await front.ask("POST", path("f", "/aliases"), {"Name": "live", "FunctionVersion": "1"})
    assert created.status == 201
    revision = created.json["RevisionId"]
    assert {**created.json, "RevisionId": ""} == {
        "AliasArn": f"{ARN}:live",
        "Name": "live",
        "FunctionVersion": "1",
        "Description": "",
        "RevisionId": "",
    }
    weights = {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.25}}, "RevisionId": revision}
    updated = (await front.ask("PUT", path("f", "/aliases/live"), weights)).json
    assert updated["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.25}}
    assert (await front.ask("PUT", path("f", "/aliases/live"), weights)).error[:2] == (
        412,
        "PreconditionFailedException",
    )
    listed = await front.ask("GET", path("f", "/aliases"), query={"FunctionVersion": "2"})
    assert listed.json == {"Aliases": [updated]}
    plain = (await front.ask("PUT", path("f", "/aliases/live"), {"RoutingConfig": {}})).json
    assert "RoutingConfig" not in plain
    assert (await front.ask("GET", path("f", "/aliases/live"))).json == plain
    assert (await front.ask("DELETE", path("f", "/aliases/live"))).status == 204
    assert (await front.ask("GET", path("f", "/aliases/live"))).error == (
        404,
        "ResourceNotFoundException",
        f"Cannot find alias arn: {ARN}:live",
    )


@pytest.mark.parametrize(
    ("version", "weights", "message"),
    [
        ("1", {"2": 0.1, "3": 0.1}, "Number of items in AdditionalVersionWeights cannot be greater than 1"),
        ("$LATEST", {"2": 0.1}, "$LATEST is not supported for an alias pointing to more than 1 version"),
        (
            "1",
            {"1": 0.1},
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
        ),
    ],
)
async def test_routing_that_lambda_does_not_admit(front, version, weights, message):
    await two_versions(front)
    routing = {"AdditionalVersionWeights": weights}
    members = {"Name": "live", "FunctionVersion": version, "RoutingConfig": routing}
    reply = await front.ask("POST", path("f", "/aliases"), members)
    assert reply.error == (400, "InvalidParameterValueException", message)


async def test_aliases_are_listed_page_by_page(front):
    await two_versions(front)
    for name in ("a", "b", "c"):
        await front.ask("POST", path("f", "/aliases"), {"Name": name, "FunctionVersion": "1"})
    first = (await front.ask("GET", path("f", "/aliases"), query={"MaxItems": 2})).json
    rest = {"MaxItems": 2, "Marker": first["NextMarker"]}
    second = (await front.ask("GET", path("f", "/aliases"), query=rest)).json
    assert [item["Name"] for item in first["Aliases"] + second["Aliases"]] == ["a", "b", "c"]


# --- Invoke ----------------------------------------------------------------------------------------------------------


async def test_a_call_and_its_answer(front):
    await two_versions(front)
    await front.ask("POST", path("f", "/aliases"), {"Name": "live", "FunctionVersion": "2"})
    context = base64.b64encode(b'{"custom": {}}').decode()
    reply = await invoke(
        front,
        event={"x": "ü"},
        query={"Qualifier": "live"},
        headers={"x-amz-client-context": context, "x-amzn-trace-id": "Root=1-2-3"},
    )
    assert (reply.status, reply.json) == (200, {"x": "ü"})
    assert reply.headers["x-amz-executed-version"] == "2"
    assert reply.headers["x-amzn-trace-id"] == "Root=1-2-3"
    assert not {"x-amz-function-error", "x-amz-log-result"} & reply.headers.keys()
    (call,) = front.echo.calls
    assert (call.invoked_arn, call.executed_version, call.configuration.timeout) == (f"{ARN}:live", "2", 9)
    assert (call.client_context, call.trace_id) == (context, "Root=1-2-3")
    assert call.request_id == reply.headers["x-amzn-requestid"]


@pytest.mark.parametrize("name", ["f", "f:$LATEST", "f:1", ARN, f"{ARN}:1", "000000000000:function:f:1"])
async def test_calls_name_the_function_in_every_form(front, name):
    await two_versions(front)
    reply = await invoke(front, name, {})
    assert reply.headers["x-amz-executed-version"] == ("1" if name.endswith(":1") else "$LATEST")


async def test_the_log_tail_is_the_last_4_kb(front):
    await front.function()
    reply = await invoke(front, event={}, headers={"x-amz-log-type": "Tail"})
    assert base64.b64decode(reply.headers["x-amz-log-result"]) == b"x" * 4096


async def test_an_error_of_the_function_is_a_200_with_a_header(front):
    await front.function()
    reply = await invoke(front, event={"raise": "boom"})
    assert (reply.status, reply.headers["x-amz-function-error"]) == (200, "Unhandled")
    assert reply.json == {"errorMessage": "boom", "errorType": "ValueError"}


async def test_an_error_of_the_service_is_an_error(front):
    await front.function()
    reply = await invoke(front, event={"refuse": "SnapStartTimeoutException"})
    assert reply.error == (408, "SnapStartTimeoutException", "Refused for the test.")
    assert reply.json == {"Type": "User", "Message": "Refused for the test."}


async def test_a_call_without_payload_gets_an_empty_event(front):
    await front.function()
    assert (await invoke(front)).body == b"{}"


@pytest.mark.parametrize("payload", [b"{", b"nope", b'{"a": "\xff"}', b"[" * 100_000, b"{} {}"])
async def test_a_payload_that_is_not_json_is_refused(front, payload):
    await front.function()
    reply = await invoke(front, body=payload)
    assert reply.error[:2] == (400, "InvalidRequestContentException")
    assert reply.error[2].startswith("Could not parse request body into json: Could not parse payload into json: ")
    assert front.echo.calls == []


async def test_a_client_context_that_is_not_base64_json_is_refused(front):
    await front.function()
    reply = await invoke(front, event={}, headers={"x-amz-client-context": "?"})
    assert reply.error[:2] == (400, "InvalidRequestContentException")


async def test_a_dry_run_calls_nothing(front):
    await front.function()
    dry = {"x-amz-invocation-type": "DryRun"}
    reply = await invoke(front, event={}, headers=dry)
    assert (reply.status, reply.body, front.echo.calls) == (204, b"", [])
    assert (await invoke(front, "g", {}, headers=dry)).status == 404


async def test_asynchronous_calls_are_put_into_the_queue(front):
    await front.function()
    context = base64.b64encode(b"{}").decode()
    headers = {"x-amz-invocation-type": "Event", "x-amz-client-context": context, "x-amzn-trace-id": "Root=1"}
    reply = await invoke(front, event={"x": 1}, headers=headers)
    assert (reply.status, reply.body, front.echo.calls) == (202, b"", [])
    older = await front.ask("POST", "/2014-11-13/functions/f/invoke-async", {"x": 2})
    assert (older.status, older.json) == (202, {"Status": 202})
    assert [call.payload for call in front.echo.queued] == [b'{"x": 1}', b'{"x": 2}']
    call = front.echo.queued[0]
    assert (call.request_id, call.invoked_arn) == (reply.headers["x-amzn-requestid"], ARN)
    assert (call.client_context, call.trace_id) == (context, "Root=1")
    assert (await invoke(front, "g", {}, headers=headers)).status == 404
    assert (await invoke(front, body=b"{", headers=headers)).error[1] == "InvalidRequestContentException"


async def test_asynchronous_calls_are_smaller(front):
    await front.function()
    headers = {"x-amz-invocation-type": "Event"}
    largest = b'"' + b"x" * (EVENT_LIMIT - 2) + b'"'
    assert (await invoke(front, body=largest, headers=headers)).status == 202
    reply = await invoke(front, body=largest + b" ", headers=headers)
    assert reply.error == (
        413,
        "RequestTooLargeException",
        f"{EVENT_LIMIT + 1} byte payload is too large for the Event invocation type (limit {EVENT_LIMIT} bytes)",
    )


async def test_an_asynchronous_call_waits_for_a_version_that_it_wakes(front):
    await front.function(**SNAP)
    await publish(front)
    await front.catalog.set_state("f", "1", state="Inactive", state_reason_code="Idle", optimization_status="Off")
    front.background.held = True
    assert (await invoke(front, "f:1", {}, headers={"x-amz-invocation-type": "Event"})).status == 202
    assert (await configuration(front, qualifier="1"))["State"] == "Pending"
    assert len(front.echo.queued) == 1


async def test_a_call_of_an_inactive_version_begins_a_new_snapshot(front):
    await front.function(**SNAP)
    await publish(front)
    await front.catalog.set_state("f", "1", state="Inactive", state_reason_code="Idle", optimization_status="Off")
    front.background.held = True
    assert (await invoke(front, "f:1", {})).error == (
        409,
        "SnapStartNotReadyException",
        "Lambda is initializing your function. It will be ready to invoke once your function state becomes ACTIVE.",
    )
    assert (await invoke(front, "f:1", {})).error[1] == "ResourceConflictException"
    await front.background.settle()
    assert (await invoke(front, "f:1", {})).status == 200


# --- tags, account, small reads --------------------------------------------------------------------------------------


async def test_tags(front):
    await front.function(Tags={"a": "1"})
    tags = f"/2017-03-31/tags/{ARN}"
    assert (await front.ask("POST", tags, {"Tags": {"b": "2"}})).status == 204
    assert (await front.ask("DELETE", tags, query={"tagKeys": ["a", "zz"]})).status == 204
    assert (await front.ask("GET", tags)).json == {"Tags": {"b": "2"}}
    many = {f"k{number}": "" for number in range(50)}
    assert (await front.ask("POST", tags, {"Tags": many})).error[2] == "Number of tags exceeds resource tag limit."
    assert (await front.ask("GET", f"{tags}:1")).error[0] == 400


async def test_reads_that_tools_need(front):
    await front.function()
    assert (await front.ask("GET", "/2019-09-30/functions/f/concurrency")).json == {}
    assert (await front.ask("GET", "/2020-06-30/functions/f/code-signing-config")).json == {}
    assert (await front.ask("GET", "/2020-06-30/functions/g/code-signing-config")).status == 404
    usage = (await front.ask("GET", "/2016-08-19/account-settings")).json["AccountUsage"]
    assert usage == {"TotalCodeSize": len(package()), "FunctionCount": 1}


# --- the front itself ------------------------------------------------------------------------------------------------


async def test_an_operation_that_is_not_implemented_says_so(front):
    reply = await front.ask("GET", "/2025-11-30/capacity-providers")
    assert reply.error == (
        501,
        "NotImplementedException",
        "The operation ListCapacityProviders is not implemented by this server yet.",
    )
    assert "ListCapacityProviders" not in front.application.implemented


async def test_an_unknown_path_is_no_operation(front):
    reply = await front.ask("GET", "/2015-03-31/nothing")
    assert reply.error[:2] == (404, "UnknownOperationException")
    assert "GET /2015-03-31/nothing" in reply.error[2]


async def test_every_answer_has_a_request_id(front):
    replies = [await front.ask("GET", place) for place in ("/", "/2015-03-31/functions", path("g"))]
    assert len({reply.headers["x-amzn-requestid"] for reply in replies}) == 3


async def test_bodies_over_the_limits_are_refused(front):
    await front.function()
    largest = b'"' + b"x" * (INVOKE_LIMIT - 2) + b'"'
    assert (await invoke(front, body=largest)).body == largest
    reply = await invoke(front, body=[largest, b" "])
    assert reply.error == (
        413,
        "RequestTooLargeException",
        f"Request must be smaller than {INVOKE_LIMIT} bytes for the InvokeFunction operation",
    )
    piece = b"x" * 1_000_000
    large = await front.ask("POST", "/2015-03-31/functions", body=[piece] * (REQUEST_LIMIT // len(piece) + 1))
    assert large.error == (
        413,
        "RequestEntityTooLargeException",
        f"Request must be smaller than {REQUEST_LIMIT} bytes for the CreateFunction operation",
    )


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeNotFound("No python9."), (400, "InvalidParameterValueException", "No python9.")),
        (ServiceError("CodeStorageExceededException", "Full."), (400, "CodeStorageExceededException", "Full.")),
        (StoreUnavailable("The origin does not answer."), (500, "ServiceException", "The origin does not answer.")),
    ],
)
async def test_what_fails_below_becomes_an_error_and_leaves_no_function(front, monkeypatch, raised, expected):
    async def fail(*_):
        raise raised

    monkeypatch.setattr(front.background, "function_created", fail)
    assert (await front.ask("POST", "/2015-03-31/functions", creation())).error == expected
    assert (await front.ask("GET", path("f"))).status == 404


async def test_a_fault_of_the_server_is_logged_and_answered_without_its_inside(front, monkeypatch, caplog):
    async def fail(_):
        raise ZeroDivisionError("the inside")

    await front.function()
    monkeypatch.setattr(front.echo, "invoke", fail)
    with caplog.at_level(logging.ERROR):
        reply = await invoke(front, event={})
    assert reply.error[:2] == (500, "ServiceException")
    assert "the inside" not in reply.error[2]
    assert "the inside" in caplog.text
    assert json.loads(reply.body)["Type"] == "Service"


@pytest.mark.parametrize("runtime", ["python3.8", "nodejs22.x", "provided.al2023", "ruby3.4", "java8.al2"])
async def test_without_strict_parity_every_runtime_may_have_snap_start(front, runtime):
    created = await front.function(Runtime=runtime, **SNAP)
    assert created.json["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}


async def test_strict_parity_allows_snap_start_for_awss_runtimes_only(tmp_path):
    front = await Front.open(tmp_path, aws_parity=True)
    for runtime in ("python3.11", "nodejs22.x", "provided.al2023", "ruby3.4", "java8.al2", "dotnet6"):
        refused = await front.ask("POST", "/2015-03-31/functions", creation("f", Runtime=runtime, **SNAP))
        message = f"{runtime} is not supported for SnapStart enabled functions."
        assert refused.error == (400, "InvalidParameterValueException", message)
    for runtime in ("python3.12", "python3.14", "java11", "java21", "dotnet8"):
        await front.function(runtime.replace(".", "-"), Runtime=runtime, **SNAP)
    await front.settled()
    await front.catalog.close()
