"""Layers over the ASGI application: versions, policies, filters, and functions that use them."""

import base64
import hashlib

import pytest

from clients.front import ACCOUNT, REGION, Front, FrontSettings, creation, package, path
from thaw.api.application import UNREADABLE_PACKAGE, create_application

LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:lib"


@pytest.fixture
async def front(tmp_path):
    opened = await Front.open(tmp_path)
    yield opened
    await opened.settled()
    await opened.catalog.close()


def layers(name="lib", rest=""):
    return f"/2018-10-31/layers/{name}/versions{rest}"


async def publish(front, name="lib", source=b"x = 1\n", **members):
    content = {"ZipFile": base64.b64encode(package(source)).decode()}
    return await front.ask("POST", layers(name), {"Content": content, **members})


async def test_a_layer_version_is_published_and_read(front):
    reply = await publish(front, Description="d", LicenseInfo="MIT", CompatibleRuntimes=["python3.12"])
    published = reply.json
    digest = base64.b64encode(hashlib.sha256(package(b"x = 1\n")).digest()).decode()
    assert reply.status == 201
    assert (published["LayerArn"], published["LayerVersionArn"], published["Version"]) == (LAYER, f"{LAYER}:1", 1)
    assert (published["Description"], published["LicenseInfo"]) == ("d", "MIT")
    assert published["CompatibleRuntimes"] == ["python3.12"]
    assert "CompatibleArchitectures" not in published
    assert published["Content"]["CodeSha256"] == digest
    assert published["Content"]["CodeSize"] == len(package(b"x = 1\n"))
    for place, query in (
        (layers(rest="/1"), {}),
        (layers(LAYER.replace(":", "%3A"), "/1"), {}),
        ("/2018-10-31/layers", {"find": "LayerVersion", "Arn": f"{LAYER}:1"}),
    ):
        found = await front.ask("GET", place, query=query)
        assert found.status == 200
        assert {**found.json, "Content": ""} == {**published, "Content": ""}


async def test_the_link_downloads_the_layer(front):
    location = (await publish(front)).json["Content"]["Location"]
    place, _, query = location.removeprefix("http://thaw.test:3001").partition("?")
    parameters = dict(pair.split("=") for pair in query.split("&"))
    assert (await front.ask("GET", place, query=parameters)).body == package(b"x = 1\n")
    forged = {**parameters, "signature": "0" * 64}
    assert (await front.ask("GET", place, query=forged)).error[:2] == (403, "AccessDeniedException")
    assert (await front.ask("GET", place.replace("/1", "/x"), query=parameters)).status == 404


async def test_numbers_are_never_given_twice(front):
    await publish(front)
    assert (await front.ask("DELETE", layers(rest="/1"))).status == 204
    assert (await front.ask("DELETE", layers(rest="/1"))).status == 204
    assert (await publish(front)).json["Version"] == 2


async def test_layers_are_listed_newest_first_and_page_by_page(front):
    for name in ("a", "b", "c"):
        await publish(front, name)
    for runtime in ("python3.12", "python3.13"):
        await publish(front, "b", CompatibleRuntimes=[runtime], CompatibleArchitectures=["arm64"])
    first = (await front.ask("GET", "/2018-10-31/layers", query={"MaxItems": 2})).json
    rest = (await front.ask("GET", "/2018-10-31/layers", query={"Marker": first["NextMarker"]})).json
    shown = [(one["LayerName"], one["LatestMatchingVersion"]["Version"]) for one in first["Layers"] + rest["Layers"]]
    assert shown == [("a", 1), ("b", 3), ("c", 1)]
    suiting = await front.ask("GET", "/2018-10-31/layers", query={"CompatibleRuntime": "python3.12"})
    assert [one["LatestMatchingVersion"]["Version"] for one in suiting.json["Layers"]] == [2]
    page = (await front.ask("GET", layers("b"), query={"MaxItems": 2})).json
    more = (await front.ask("GET", layers("b"), query={"MaxItems": 2, "Marker": page["NextMarker"]})).json
    assert [one["Version"] for one in page["LayerVersions"] + more["LayerVersions"]] == [3, 2, 1]
    arm = (await front.ask("GET", layers("b"), query={"CompatibleArchitecture": "arm64"})).json
    assert [one["Version"] for one in arm["LayerVersions"]] == [3, 2]
    assert (await front.ask("GET", layers("none"))).json == {"LayerVersions": []}


MISSING = (404, "ResourceNotFoundException", "The resource you requested does not exist.")
TOO_LOW = (400, "InvalidParameterValueException", "Layer Version Cannot be less than 1")


@pytest.mark.parametrize(
    ("method", "place", "query", "error"),
    [
        ("GET", layers("none", "/1"), {}, MISSING),
        ("GET", layers(rest="/2"), {}, MISSING),
        ("GET", layers(rest="/0"), {}, TOO_LOW),
        ("GET", layers(rest="/-1"), {}, TOO_LOW),
        ("DELETE", layers(rest="/0"), {}, TOO_LOW),
        ("GET", layers(rest="/99999999999"), {}, MISSING),
        ("GET", "/2018-10-31/layers", {"find": "LayerVersion", "Arn": f"{LAYER}:9"}, MISSING),
        ("GET", "/2018-10-31/layers", {"find": "LayerVersion", "Arn": "arn:aws:lambda:::awslayer:x"}, MISSING),
        ("GET", layers(LAYER.replace(REGION, "eu-west-1").replace(":", "%3A"), "/1"), {}, MISSING),
        (
            "GET",
            layers(rest="/1/policy"),
            {},
            (404, "ResourceNotFoundException", "No policy is associated with the given resource."),
        ),
        (
            "GET",
            layers("none", "/1/policy"),
            {},
            (404, "ResourceNotFoundException", f"Layer version {LAYER[:-3]}none:1 does not exist."),
        ),
    ],
)
async def test_layers_that_are_not_there(front, method, place, query, error):
    await publish(front)
    assert (await front.ask(method, place, query=query)).error == error


async def test_unknown_runtimes_and_unreadable_zips_are_refused(front):
    reply = await publish(front, CompatibleRuntimes=["cobol"])
    assert reply.error[1] == "ValidationException"
    assert "Value '[cobol]' at 'compatibleRuntimes' failed to satisfy constraint" in reply.error[2]
    reply = await front.ask("GET", layers(), query={"CompatibleRuntime": "cobol"})
    assert "Value 'cobol' at 'compatibleRuntime' failed to satisfy constraint" in reply.error[2]
    nonsense = {"Content": {"ZipFile": base64.b64encode(b"no zip").decode()}}
    assert (await front.ask("POST", layers(), nonsense)).error[2] == UNREADABLE_PACKAGE
    reply = await front.ask("POST", layers(), {"Content": {}})
    assert reply.error == (400, "InvalidParameterValueException", "Please provide a source for layer content.")
    assert (await front.ask("GET", layers())).json == {"LayerVersions": []}


# --- policies --------------------------------------------------------------------------------------------------------


async def permit(front, sid="s1", principal="*", query=None, **members):
    body = {"StatementId": sid, "Action": "lambda:GetLayerVersion", "Principal": principal, **members}
    return await front.ask("POST", layers(rest="/1/policy"), body, query=query)


async def test_the_policy_of_a_layer_version(front):
    await publish(front)
    added = (await permit(front)).json
    members = '"Sid":"s1","Effect":"Allow","Principal":"*","Action":"lambda:GetLayerVersion"'
    statement = f'{{{members},"Resource":"{LAYER}:1"}}'
    assert added["Statement"] == statement
    assert (await front.ask("GET", layers(rest="/1/policy"))).json == {
        "Policy": f'{{"Version":"2012-10-17","Id":"default","Statement":[{statement}]}}',
        "RevisionId": added["RevisionId"],
    }
    second = (await permit(front, "s2", ACCOUNT, OrganizationId="o-1234567890")).json
    assert f'"Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:root"}}' in second["Statement"]
    assert '"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1234567890"}}' in second["Statement"]
    stale = {"RevisionId": added["RevisionId"]}
    wrong = (
        412,
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetLayerPolicy API to retrieve the latest Revision Id",
    )
    assert (await permit(front, "s3", query=stale)).error == wrong
    assert (await front.ask("DELETE", layers(rest="/1/policy/s2"), query=stale)).error == wrong
    for sid in ("s2", "s1"):
        assert (await front.ask("DELETE", layers(rest=f"/1/policy/{sid}"))).status == 204
    assert (await front.ask("GET", layers(rest="/1/policy"))).status == 404


async def test_statements_that_cannot_be(front):
    await publish(front)
    await permit(front)
    assert (await permit(front)).error == (
        409,
        "ResourceConflictException",
        "The statement id (s1) provided already exists. "
        "Please provide a new statement id, or remove the existing statement.",
    )
    assert (await front.ask("DELETE", layers(rest="/1/policy/s9"))).error == (
        404,
        "ResourceNotFoundException",
        "Statement s9 is not found in resource policy.",
    )
    reply = await front.ask(
        "POST",
        layers(rest="/2/policy"),
        {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"},
    )
    assert reply.error == (404, "ResourceNotFoundException", f"Layer version {LAYER}:2 does not exist.")


# --- functions that use layers ---------------------------------------------------------------------------------------


async def test_a_function_shows_its_layers_and_keeps_them(front):
    await publish(front)
    size = len(package(b"x = 1\n"))
    created = (await front.function(Layers=[f"{LAYER}:1"])).json
    assert created["Layers"] == [{"Arn": f"{LAYER}:1", "CodeSize": size}]
    (used,) = (await front.catalog.function("f")).layers
    assert used.content_key == hashlib.sha256(package(b"x = 1\n")).hexdigest()
    await front.ask("DELETE", layers(rest="/1"))
    assert (await front.ask("GET", path("f", "/configuration"))).json["Layers"] == created["Layers"]
    assert used.content_key in front.background.packages
    await front.ask("PUT", path("f", "/configuration"), {"Layers": []})
    await front.settled()
    assert "Layers" not in (await front.ask("GET", path("f", "/configuration"))).json


async def test_the_content_of_a_layer_goes_with_its_last_version(front):
    await publish(front)
    await publish(front, "twin")
    key = hashlib.sha256(package(b"x = 1\n")).hexdigest()
    await front.ask("DELETE", layers(rest="/1"))
    assert key in front.background.packages
    await front.ask("DELETE", layers("twin", "/1"))
    assert key not in front.background.packages


async def test_new_layers_make_a_new_version(front):
    await publish(front)
    await front.function(Publish=True)
    await front.ask("PUT", path("f", "/configuration"), {"Layers": [f"{LAYER}:1"]})
    await front.settled()
    assert (await front.ask("POST", path("f", "/versions"), {})).json["Version"] == "2"


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ([f"{LAYER}:9"], (400, "InvalidParameterValueException", f"Layer version {LAYER}:9 does not exist.")),
        (
            [f"{LAYER}:1", f"{LAYER}:2"],
            (
                400,
                "InvalidParameterValueException",
                "Two different versions of the same layer are not allowed to be referenced in the same function. "
                f"{LAYER}:1 and {LAYER}:2 are versions of the same layer.",
            ),
        ),
        (
            [f"{LAYER}{number}:1" for number in range(6)],
            (400, "InvalidParameterValueException", "Cannot reference more than 5 layers."),
        ),
        (
            [f"{LAYER.replace(REGION, 'eu-west-1')}:1"],
            (
                400,
                "InvalidParameterValueException",
                "Layers are not in the same region as the function. Layers are expected to be in region us-east-1.",
            ),
        ),
        (
            [f"{LAYER.replace(ACCOUNT, '123456789012')}:1"],
            (
                403,
                "AccessDeniedException",
                f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:GetLayerVersion on resource: "
                f"{LAYER.replace(ACCOUNT, '123456789012')}:1 because no resource-based policy allows the "
                "lambda:GetLayerVersion action",
            ),
        ),
    ],
)
async def test_layers_that_a_function_cannot_use(front, names, error):
    for _ in range(2):
        await publish(front)
    assert (await front.ask("POST", "/2015-03-31/functions", creation(Layers=names))).error == error
    assert (await front.ask("GET", path("f"))).status == 404


async def test_without_a_place_for_packages_layers_are_not_implemented(front):
    front.application = create_application(FrontSettings(), front.catalog, front.background, front.echo)
    assert (await publish(front)).error[:2] == (501, "NotImplementedException")
    reply = await front.ask("POST", "/2015-03-31/functions", creation(Layers=[f"{LAYER}:1"]))
    assert reply.error[2] == f"Layer version {LAYER}:1 does not exist."
