"""Resource policies over the ASGI application, against what was recorded of Lambda's answers."""

import json

import pytest

from clients.front import ACCOUNT, REGION, front_with_alias, path

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
INVOKE = {"Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}


@pytest.fixture
async def front(tmp_path):
    async with front_with_alias(tmp_path) as opened:
        yield opened


async def permit(front, sid="s", name="f", qualifier=None, **members):
    query = {"Qualifier": qualifier} if qualifier else None
    return await front.ask("POST", path(name, "/policy"), {"StatementId": sid, **INVOKE, **members}, query=query)


async def policy(front, qualifier=None):
    return await front.ask("GET", path("f", "/policy"), query={"Qualifier": qualifier} if qualifier else None)


async def remove(front, sid="s", name="f", **query):
    return await front.ask("DELETE", path(name, f"/policy/{sid}"), query=query)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            {"SourceArn": "arn:aws:s3:::b"},
            {
                "Principal": {"Service": "s3.amazonaws.com"},
                "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}},
            },
        ),
        (
            {"Principal": "*", "SourceAccount": "111111111111"},
            {"Principal": "*", "Condition": {"StringEquals": {"AWS:SourceAccount": "111111111111"}}},
        ),
        ({"Principal": "111111111111"}, {"Principal": {"AWS": "arn:aws:iam::111111111111:root"}}),
        (
            {"Principal": "arn:aws:iam::111111111111:user/a"},
            {"Principal": {"AWS": "arn:aws:iam::111111111111:user/a"}},
        ),
        (
            {"Principal": "*", "EventSourceToken": "amzn1.ask.skill.x"},
            {"Principal": "*", "Condition": {"StringEquals": {"lambda:EventSourceToken": "amzn1.ask.skill.x"}}},
        ),
        (
            {
                "Action": "lambda:InvokeFunctionUrl",
                "Principal": "*",
                "SourceArn": "arn:aws:s3:::b",
                "SourceAccount": "111111111111",
                "PrincipalOrgID": "o-1234567890",
                "FunctionUrlAuthType": "NONE",
                "InvokedViaFunctionUrl": True,
            },
            {
                "Action": "lambda:InvokeFunctionUrl",
                "Principal": "*",
                "Condition": {
                    "StringEquals": {
                        "AWS:SourceAccount": "111111111111",
                        "lambda:FunctionUrlAuthType": "NONE",
                        "aws:PrincipalOrgID": "o-1234567890",
                    },
                    "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"},
                    "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
                },
            },
        ),
    ],
)
async def test_statements_are_written_as_lambda_writes_them(front, members, expected):
    reply = await permit(front, **members)
    statement = json.loads(reply.json["Statement"])
    assert reply.status == 201
    whole = {"Sid": "s", "Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": ARN, **expected}
    assert statement == whole
    assert list(statement)[:5] == ["Sid", "Effect", "Principal", "Action", "Resource"]
    assert json.loads((await policy(front)).json["Policy"]) == {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [whole],
    }


@pytest.mark.parametrize(("qualifier", "resource"), [("1", f"{ARN}:1"), ("live", f"{ARN}:live"), (None, ARN)])
async def test_each_qualifier_has_its_own_policy_and_revision(front, qualifier, resource):
    place = path("f", "/aliases/live") if qualifier == "live" else path("f", "/configuration")
    query = {"Qualifier": "1"} if qualifier == "1" else None
    before = (await front.ask("GET", place, query=query)).json["RevisionId"]
    await permit(front, qualifier=qualifier, RevisionId=before)
    found = (await policy(front, qualifier)).json
    assert json.loads(found["Policy"])["Statement"][0]["Resource"] == resource
    assert found["RevisionId"] != before
    assert found["RevisionId"] == (await front.ask("GET", place, query=query)).json["RevisionId"]
    others = {"1", "live", None} - {qualifier}
    assert [(await policy(front, other)).status for other in others] == [404, 404]
    stale = await permit(front, "t", qualifier=qualifier, RevisionId=before)
    assert stale.error == (
        412,
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetPolicy API to retrieve the latest Revision Id",
    )


async def test_removing_statements(front):
    await permit(front, "a")
    await permit(front, "b")
    assert (await remove(front, "c")).error[2] == "Statement c is not found in resource policy."
    stale = await remove(front, "a", RevisionId="x")
    assert stale.error[:2] == (412, "PreconditionFailedException")
    assert (await remove(front, "a")).status == 204
    left = (await policy(front)).json
    assert [one["Sid"] for one in json.loads(left["Policy"])["Statement"]] == ["b"]
    assert (await remove(front, "b", RevisionId=left["RevisionId"])).status == 204
    assert (await policy(front)).error == (
        404,
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )


async def test_refusals_in_lambdas_words(front):
    await permit(front)
    texts = [
        await permit(front),
        await permit(front, "t", qualifier="$LATEST"),
        await permit(front, "t", Principal="example"),
        await permit(front, "t", name="g"),
        await permit(front, "t", qualifier="none"),
        await permit(front, "t", qualifier="42"),
        await permit(front, "t", qualifier="with-$"),
        await permit(front, "t", name="f:1", qualifier="2"),
        await remove(front, name="g"),
        await remove(front, Qualifier="1"),
        await remove(front, Qualifier="none"),
    ]
    assert [reply.error[2] for reply in texts] == [
        "The statement id (s) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
        "We currently do not support adding policies for $LATEST.",
        "The provided principal was invalid. Please check the principal and try again.",
        f"Function not found: {ARN[:-1]}g",
        f"Cannot find alias arn: {ARN}:none",
        f"Function not found: {ARN}:42",
        f"Function not found: {ARN}:with-$",
        "The derived qualifier from the function name does not match the specified qualifier.",
        f"No policy found for: {ARN[:-1]}g",
        "No policy is associated with the given resource.",
        f"Cannot find alias arn: {ARN}:none",
    ]


async def test_a_policy_has_a_greatest_length(front):
    for number in range(17):
        reply = await permit(front, f"s{number}", SourceArn="arn:aws:s3:::" + "b" * 1000)
    assert reply.error[:2] == (400, "PolicyLengthExceededException")
    assert len(json.loads((await policy(front)).json["Policy"])["Statement"]) == 16


async def test_a_policy_goes_with_what_it_hangs_on(front):
    for qualifier in ("1", "live", None):
        await permit(front, qualifier=qualifier)
    await front.ask("DELETE", path("f", "/aliases/live"))
    await front.ask("POST", path("f", "/aliases"), {"Name": "live", "FunctionVersion": "1"})
    assert (await policy(front, "live")).status == 404
    assert (await policy(front, "1")).status == 200
    await front.ask("DELETE", path("f"))
    await front.function()
    assert (await policy(front)).status == 404


async def test_a_policy_during_an_update_leaves_the_update_alone(front):
    front.background.held = True
    await front.ask("PUT", path("f", "/configuration"), {"Timeout": 9})
    await permit(front)
    assert (await front.catalog.resolve("f")).timeout == 3
    await front.background.settle()
    assert (await front.catalog.resolve("f")).timeout == 9
    assert (await policy(front)).status == 200
