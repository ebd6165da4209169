"""Concurrency, asynchronous calls and the smaller settings, against what was recorded of Lambda's answers."""

import time

import pytest

from clients.front import ACCOUNT, REGION, FrontSettings, front_with_alias, path
from thaw.api.application import create_application

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
SNAP = {"SnapStart": {"ApplyOn": "PublishedVersions"}}


@pytest.fixture
async def front(tmp_path):
    async with front_with_alias(tmp_path) as opened:
        yield opened


async def texts(*replies):
    return [(await reply).error[2] for reply in replies]


# --- reserved concurrency --------------------------------------------------------------------------------------------


def reserve(front, executions, name="f"):
    body = {"ReservedConcurrentExecutions": executions}
    return front.ask("PUT", f"/2017-10-31/functions/{name}/concurrency", body)


async def reserved(front):
    return (await front.ask("GET", "/2019-09-30/functions/f/concurrency")).json


async def unreserved(front):
    settings = (await front.ask("GET", "/2016-08-19/account-settings")).json
    return settings["AccountLimit"]["UnreservedConcurrentExecutions"]


async def test_reserved_concurrency_reaches_every_call(front):
    assert await reserved(front) == {}
    assert (await front.catalog.resolve("f")).reserved_concurrency is None
    for executions in (0, 900, 5):
        reply = await reserve(front, executions)
        assert (reply.status, reply.json) == (200, {"ReservedConcurrentExecutions": executions})
        assert await reserved(front) == reply.json
        assert (await front.ask("GET", path("f"))).json["Concurrency"] == reply.json
        for qualifier in (None, "1", "live"):
            assert (await front.catalog.resolve("f", qualifier)).reserved_concurrency == executions
        assert await unreserved(front) == 1000 - executions
    assert (await front.ask("DELETE", "/2017-10-31/functions/f/concurrency")).status == 204
    assert await reserved(front) == {}
    assert (await front.catalog.resolve("f", "live")).reserved_concurrency is None


async def test_the_account_keeps_concurrency_for_the_others(front):
    await front.function("g")
    await reserve(front, 300, "g")
    too_much = (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100]."
    )
    assert await texts(
        reserve(front, 601), reserve(front, 1, "h"), reserve(front, 1, "f:1"), reserve(front, 2**31 - 1)
    ) == [
        too_much,
        f"Function not found: {ARN[:-1]}h:$LATEST",
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
        "Please specify either a function name or an unqualified function ARN.",
        too_much,
    ]
    assert (await reserve(front, 600)).status == 200
    assert (await reserve(front, 600)).status == 200


# --- provisioned concurrency -----------------------------------------------------------------------------------------


def provisioned(front, method, qualifier="1", name="f", executions=None):
    body = None if executions is None else {"ProvisionedConcurrentExecutions": executions}
    query = {"Qualifier": qualifier}
    return front.ask(method, f"/2019-09-30/functions/{name}/provisioned-concurrency", body, query=query)


async def test_provisioned_concurrency_from_request_to_ready(front):
    front.background.held = True
    asked = await provisioned(front, "PUT", executions=2)
    modified = asked.json.pop("LastModified")
    assert modified.endswith("+0000")
    assert (asked.status, {**asked.json, "LastModified": ""}) == (
        202,
        {
            "RequestedProvisionedConcurrentExecutions": 2,
            "AvailableProvisionedConcurrentExecutions": 0,
            "AllocatedProvisionedConcurrentExecutions": 0,
            "Status": "IN_PROGRESS",
            "LastModified": "",
        },
    )
    assert front.background.provisioned == [("f", "1")]
    await front.catalog.concurrency.report("f", "1", allocated=2, available=1, status="FAILED", status_reason="why")
    found = (await provisioned(front, "GET")).json
    assert (found["AllocatedProvisionedConcurrentExecutions"], found["AvailableProvisionedConcurrentExecutions"]) == (
        2,
        1,
    )
    assert (found["Status"], found["StatusReason"], found["LastModified"]) == ("FAILED", "why", modified)
    query = {"List": "ALL"}
    listed = await front.ask("GET", "/2019-09-30/functions/f/provisioned-concurrency", query=query)
    assert listed.json == {"ProvisionedConcurrencyConfigs": [{"FunctionArn": f"{ARN}:1", **found}]}
    assert await unreserved(front) == 998
    assert (await provisioned(front, "DELETE")).status == 204
    assert front.background.provisioned[1:] == [("f", "1")]
    assert (await provisioned(front, "GET")).error == (
        404,
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )
    assert (await provisioned(front, "DELETE")).status == 204
    assert await front.catalog.concurrency.report("f", "1", status="READY") is None


async def test_provisioned_concurrency_that_cannot_be(front):
    await front.function("snap", Publish=True, **SNAP)
    latest = "The function resource provided must be an alias or a published version."
    assert await texts(
        provisioned(front, "PUT", "$LATEST", executions=1),
        provisioned(front, "GET", "$LATEST"),
        provisioned(front, "DELETE", "$LATEST"),
        provisioned(front, "PUT", "none", executions=1),
        provisioned(front, "PUT", "10", executions=1),
        provisioned(front, "GET", "none"),
        provisioned(front, "DELETE", "10"),
        provisioned(front, "GET", "none", "g"),
        provisioned(front, "PUT", "1", "snap", executions=1),
        provisioned(front, "PUT", executions=1001),
        provisioned(front, "PUT", executions=901),
        provisioned(front, "PUT", executions=0),
    ) == [
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        latest,
        latest,
        f"Cannot find alias arn: {ARN}:none",
        f"Function not found: {ARN}:10",
        f"Cannot find alias arn: {ARN}:none",
        f"Function not found: {ARN}:10",
        f"Cannot find alias arn: {ARN[:-1]}g:none",
        "Provisioned Concurrency is not supported for SnapStart enabled functions.",
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].",
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
        "minimum value of [100].",
        "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1",
    ]
    assert front.background.provisioned == []


async def test_reserved_and_provisioned_concurrency_go_together(front):
    await reserve(front, 3)
    refused = await provisioned(front, "PUT", executions=4)
    assert refused.error[2] == (
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    )
    assert (await provisioned(front, "PUT", executions=3)).status == 202
    assert (await reserve(front, 2)).error[2] == (
        " ReservedConcurrentExecutions  2 should not be lower than function's total provisioned concurrency [3]."
    )
    assert await unreserved(front) == 997


async def test_a_version_and_its_alias_do_not_both_have_provisioned_concurrency(front):
    await provisioned(front, "PUT", executions=1)
    assert (await provisioned(front, "PUT", "live", executions=1)).error[1:] == (
        "ResourceConflictException",
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )
    await provisioned(front, "DELETE")
    assert (await provisioned(front, "PUT", "live", executions=1)).status == 202
    assert (await provisioned(front, "PUT", executions=1)).error[1:] == (
        "ResourceConflictException",
        "Version is pointed by a Provisioned Concurrency alias",
    )


async def test_an_alias_that_moves_or_goes_takes_its_environments_along(front):
    await front.ask("PUT", path("f", "/configuration"), SNAP)
    await front.settled()
    await front.ask("POST", path("f", "/versions"), {})
    await front.settled()
    await provisioned(front, "PUT", "live", executions=1)
    refused = await front.ask("PUT", path("f", "/aliases/live"), {"FunctionVersion": "2"})
    assert refused.error[2] == "Provisioned Concurrency is not supported for SnapStart enabled functions."
    await front.ask("PUT", path("f", "/aliases/live"), {"Description": "d"})
    await front.ask("DELETE", path("f", "/aliases/live"))
    assert front.background.provisioned == [("f", "live")] * 3
    assert await front.catalog.concurrency.unreserved() == 1000


async def test_without_something_that_provides_it_provisioned_concurrency_is_not_implemented(front):
    front.application = create_application(FrontSettings(), front.catalog, front.background, front.echo)
    assert (await provisioned(front, "PUT", executions=1)).error[:2] == (501, "NotImplementedException")


# --- asynchronous calls ----------------------------------------------------------------------------------------------


def event_invoke(front, method, body=None, qualifier=None, name="f", rest=""):
    query = {"Qualifier": qualifier} if qualifier else None
    return front.ask(method, f"/2019-09-25/functions/{name}/event-invoke-config{rest}", body, query=query)


async def test_what_becomes_of_asynchronous_calls(front):
    await front.function("g")
    target = {"OnSuccess": {"Destination": f"{ARN[:-1]}g"}}
    before = time.time()
    put = (await event_invoke(front, "PUT", {"MaximumRetryAttempts": 1, "DestinationConfig": target})).json
    assert before <= put.pop("LastModified") <= time.time()
    assert put == {
        "FunctionArn": f"{ARN}:$LATEST",
        "MaximumRetryAttempts": 1,
        "DestinationConfig": {**target, "OnFailure": {}},
    }
    failure = {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:q"}}
    changes = {"MaximumEventAgeInSeconds": 60, "DestinationConfig": failure}
    updated = (await event_invoke(front, "POST", changes)).json
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 60)
    assert updated["DestinationConfig"] == target | failure
    assert (await event_invoke(front, "GET")).json == updated
    again = (await event_invoke(front, "PUT", {"MaximumRetryAttempts": 0})).json
    assert "MaximumEventAgeInSeconds" not in again
    assert again["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    for qualifier in ("1", "live"):
        await event_invoke(front, "PUT", {"MaximumRetryAttempts": 2}, qualifier)
    listed = (await event_invoke(front, "GET", rest="/list")).json["FunctionEventInvokeConfigs"]
    assert [one["FunctionArn"] for one in listed] == [f"{ARN}:$LATEST", f"{ARN}:1", f"{ARN}:live"]
    for qualifier in (None, "1", "live"):
        assert (await event_invoke(front, "DELETE", qualifier=qualifier)).status == 204
    assert (await event_invoke(front, "GET", rest="/list")).json == {"FunctionEventInvokeConfigs": []}


async def test_asynchronous_settings_that_cannot_be(front):
    def destination(arn):
        return {"DestinationConfig": {"OnSuccess": {"Destination": arn}}}

    iam = "arn:aws:iam:us-east-1:000000000000:function:f"
    assert await texts(
        event_invoke(front, "PUT", {}),
        event_invoke(front, "PUT", {"MaximumRetryAttempts": 1}, name="g"),
        event_invoke(front, "PUT", {"MaximumRetryAttempts": 1}, qualifier="none"),
        event_invoke(front, "PUT", destination(f"{ARN[:-1]}g")),
        event_invoke(front, "PUT", destination(ARN)),
        event_invoke(front, "PUT", destination(iam)),
        event_invoke(front, "POST", {"MaximumRetryAttempts": 1}),
        event_invoke(front, "GET", name="g"),
        event_invoke(front, "GET", qualifier="none"),
        event_invoke(front, "DELETE"),
        event_invoke(front, "GET", name="g", rest="/list"),
    ) == [
        "You must specify at least one of error handling or destination setting.",
        "The function doesn't exist.",
        "The function doesn't exist.",
        f"The destination ARN {ARN[:-1]}g is invalid.",
        "You can't specify the function as a destination for itself.",
        f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={iam}), onFailure=null) "
        "is invalid.",
        f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig",
        f"The function {ARN[:-1]}g:$LATEST doesn't have an EventInvokeConfig",
        f"The function {ARN}:none doesn't have an EventInvokeConfig",
        f"The function {ARN}:$LATEST doesn't have an EventInvokeConfig",
        "The function doesn't exist.",
    ]


# --- smaller settings ------------------------------------------------------------------------------------------------


async def test_when_a_function_takes_a_newer_runtime(front):
    place = "/2021-07-20/functions/f/runtime-management-config"
    arn = "arn:aws:lambda:us-east-1::runtime:abc"
    assert (await front.ask("GET", place)).json == {"UpdateRuntimeOn": "Auto", "FunctionArn": f"{ARN}:$LATEST"}
    await front.catalog.set_state("f", "$LATEST", state="Active", runtime_version_arn=arn)
    manual = {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": arn}
    assert (await front.ask("PUT", place, manual)).json == {**manual, "FunctionArn": f"{ARN}:$LATEST"}
    assert (await front.ask("GET", place)).json == {**manual, "FunctionArn": f"{ARN}:$LATEST"}
    for members in (
        {"UpdateRuntimeOn": "Manual"},
        {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": f"{arn}d"},
        {"UpdateRuntimeOn": "Auto", "RuntimeVersionArn": arn},
    ):
        assert (await front.ask("PUT", place, members)).error[:2] == (400, "InvalidParameterValueException")
    on_alias = await front.ask("PUT", place, {"UpdateRuntimeOn": "Auto"}, query={"Qualifier": "live"})
    assert on_alias.status == 404


async def test_recursion(front):
    place = "/2024-08-31/functions/f/recursion-config"
    assert (await front.ask("GET", place)).json == {"RecursiveLoop": "Terminate"}
    assert (await front.ask("PUT", place, {"RecursiveLoop": "Allow"})).json == {"RecursiveLoop": "Allow"}
    assert (await front.ask("GET", place)).json == {"RecursiveLoop": "Allow"}
    assert (await front.ask("GET", place.replace("/f/", "/g/"))).error[2] == f"Function not found: {ARN[:-1]}g"


async def test_code_signing_and_scaling(front):
    place = "/2020-06-30/functions/f/code-signing-config"
    config = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"
    assert (await front.ask("GET", place)).json == {}
    assert (await front.ask("PUT", place, {"CodeSigningConfigArn": config})).error == (
        404,
        "CodeSigningConfigNotFoundException",
        f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
        f"{config}.",
    )
    assert (await front.ask("DELETE", place)).status == 204
    scaling = await front.ask("GET", "/2025-11-30/functions/f/function-scaling-config", query={"Qualifier": "1"})
    assert scaling.json == {"FunctionArn": f"{ARN}:1"}
