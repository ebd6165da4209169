"""AWS's own answers, as public recordings of them show, against ours: status, code and message of refusals, and the
members of every kind of answer.

The facts are from recordings that others made of the Lambda API between 2022 and 2026 (the snapshot files of
LocalStack's tests, which are run against AWS). Names are ours; messages that repeat a pattern or a list of the service
model are compared up to it, because AWS changes these with every region and runtime.
"""

import base64
import os

import pytest

from clients.front import ACCOUNT, REGION, Front, creation, package, path

ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
LAYER = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer"
INVALID, VALIDATION, MISSING = "InvalidParameterValueException", "ValidationException", "ResourceNotFoundException"
CONFLICT = "ResourceConflictException"
V1 = "1 validation error detected: "


@pytest.fixture
async def front(tmp_path):
    """A function f with version 1 and the alias live; the layer l, version 1."""
    opened = await Front.open(tmp_path)
    await opened.function(Publish=True)
    await opened.settled()
    alias = {"Name": "live", "FunctionVersion": "1"}
    assert (await opened.ask("POST", path("f", "/aliases"), alias)).status == 201
    layer = {"Content": {"ZipFile": base64.b64encode(package()).decode()}}
    assert (await opened.ask("POST", "/2018-10-31/layers/l/versions", layer)).status == 201
    yield opened
    await opened.settled()
    await opened.catalog.close()


def function(name="f", rest="", version="2015-03-31"):
    return path(name, rest).replace("2015-03-31", version)


EVENT_INVOKE = "2019-09-25"
CONCURRENCY = "2017-10-31"
URL = "2021-10-31"
PROVISIONED = "2019-09-30"
PERMISSION = {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
ALIAS = {"Name": "new", "FunctionVersion": "1"}

REFUSALS = [
    # functions
    ("GET", function("none"), None, {}, 404, MISSING, f"Function not found: {ARN}:none"),
    ("GET", function(), None, {"Qualifier": "1221"}, 404, MISSING, f"Function not found: {ARN}:f:1221"),
    ("GET", function("none", "/configuration"), None, {}, 404, MISSING, f"Function not found: {ARN}:none"),
    ("DELETE", function("none"), None, {}, 404, MISSING, f"Function not found: {ARN}:none"),
    ("DELETE", function(), None, {"Qualifier": "$LATEST"}, 400, INVALID,
     "$LATEST version cannot be deleted without deleting the function."),
    ("GET", function("f:1"), None, {"Qualifier": "$LATEST"}, 400, INVALID,
     "The derived qualifier from the function name does not match the specified qualifier."),
    ("GET", function(f"arn:aws:lambda:eu-west-3:{ACCOUNT}:function:f"), None, {}, 404, MISSING,
     f"Functions from 'eu-west-3' are not reachable in this region ('{REGION}')"),
    ("POST", function("", "")[:-1], creation("a" * 65), {}, 400, INVALID,
     f"{V1}Value '{'a' * 65}' at 'functionName' failed to satisfy constraint: Member must have length less than or "
     "equal to 64"),
    ("POST", function("", "")[:-1], creation("g", Role="r1"), {}, 400, VALIDATION,
     f"{V1}Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: "),
    ("POST", function("", "")[:-1], creation("g", Runtime="PYTHON3.9"), {}, 400, INVALID,
     "Value PYTHON3.9 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: ["),
    ("POST", function("", "")[:-1], creation("g", Architectures=["x86_64", "arm64"]), {}, 400, VALIDATION,
     f"{V1}Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than "
     "or equal to 1"),
    ("POST", function("", "")[:-1], creation("g", Architectures=["X86_64"]), {}, 400, VALIDATION,
     f"{V1}Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member "
     "must satisfy enum value set: [x86_64, arm64], Member must not be null]"),
    ("POST", function("", "")[:-1], creation("g", Code={"ZipFile": "eA=="}), {}, 400, INVALID,
     "Could not unzip uploaded file. Please check your file, then try to upload again."),
    ("POST", function("", "")[:-1], creation("g", SnapStart={"ApplyOn": "invalidOption"}), {}, 400, VALIDATION,
     f"{V1}Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value "
     "set: [PublishedVersions, None]"),
    ("POST", function("", "")[:-1], creation("g", Environment={"Variables": {"SMALL": "ok", "LARGE": "x" * 4096}}), {},
     400, INVALID,
     "Lambda was unable to configure your environment variables because the environment variables you have "
     'provided exceeded the 4KB limit. String measured: {"SMALL":"ok","LARGE":"' + "x" * 4096 + '"}'),
    ("GET", function("", "")[:-1], None, {"FunctionVersion": "invalid"}, 400, VALIDATION,
     f"{V1}Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: "
     "[ALL]"),
    ("GET", function("a" * 65), None, {}, 404, MISSING, f"Function not found: {ARN}:{'a' * 65}"),
    ("GET", function(), None, {"Qualifier": "$latest"}, 404, MISSING, f"Function not found: {ARN}:f:$latest"),
    ("POST", function("none", "/invocations"), {}, {}, 404, MISSING, f"Function not found: {ARN}:none:$LATEST"),
    ("POST", function("f", "/invocations"), {}, {"Qualifier": "7"}, 404, MISSING, f"Function not found: {ARN}:f:7"),
    # versions
    ("POST", function("f", "/versions"), {"RevisionId": "wrong"}, {}, 412, "PreconditionFailedException",
     "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve "
     "the latest Revision Id"),
    # aliases
    ("POST", function("f", "/aliases"), {**ALIAS, "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.1, "2": 0.1}}},
     {}, 400, INVALID, "Number of items in AdditionalVersionWeights cannot be greater than 1"),
    ("POST", function("f", "/aliases"), {**ALIAS, "RoutingConfig": {"AdditionalVersionWeights": {"2": 2.0}}}, {}, 400,
     VALIDATION, f"{V1}Value '{{2=2.0}}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map "
     "value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater "
     "than or equal to 0.0, Member must not be null]"),
    ("POST", function("f", "/aliases"), {**ALIAS, "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}}, {}, 400,
     INVALID, "Invalid function version 1. Function version 1 is already included in routing configuration."),
    ("POST", function("f", "/aliases"), {**ALIAS, "FunctionVersion": "10"}, {}, 404, MISSING,
     f"Function not found: {ARN}:f:10"),
    ("POST", function("f", "/aliases"),
     {**ALIAS, "FunctionVersion": "$LATEST", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}}, {}, 400,
     INVALID, "$LATEST is not supported for an alias pointing to more than 1 version"),
    ("POST", function("none", "/aliases"), ALIAS, {}, 404, MISSING, f"Function not found: {ARN}:none:1"),
    ("POST", function("f", "/aliases"), {**ALIAS, "Name": "live"}, {}, 409, CONFLICT,
     f"Alias already exists: {ARN}:f:live"),
    ("POST", function("f", "/aliases"), {**ALIAS, "Name": "2024"}, {}, 400, VALIDATION,
     f"{V1}Value '2024' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: "),
    ("GET", function("f", "/aliases/none"), None, {}, 404, MISSING, f"Cannot find alias arn: {ARN}:f:none"),
    ("PUT", function("f", "/aliases/none"), {"Description": "d"}, {}, 404, MISSING, f"Alias not found: {ARN}:f:none"),
    ("GET", function(), None, {"Qualifier": "none"}, 404, MISSING, f"Function not found: {ARN}:f:none"),
    # asynchronous calls
    ("PUT", function("none", "/event-invoke-config", EVENT_INVOKE), {"MaximumRetryAttempts": 1}, {}, 404, MISSING,
     "The function doesn't exist."),
    ("PUT", function("f", "/event-invoke-config", EVENT_INVOKE), {}, {}, 400, INVALID,
     "You must specify at least one of error handling or destination setting."),
    ("PUT", function("f", "/event-invoke-config", EVENT_INVOKE),
     {"DestinationConfig": {"OnSuccess": {"Destination": f"{ARN}:none"}}}, {}, 400, INVALID,
     f"The destination ARN {ARN}:none is invalid."),
    ("PUT", function("f", "/event-invoke-config", EVENT_INVOKE),
     {"DestinationConfig": {"OnSuccess": {"Destination": f"{ARN}:f"}}}, {}, 400, INVALID,
     "You can't specify the function as a destination for itself."),
    ("GET", function("f", "/event-invoke-config", EVENT_INVOKE), None, {}, 404, MISSING,
     f"The function {ARN}:f:$LATEST doesn't have an EventInvokeConfig"),
    ("GET", function("none", "/event-invoke-config", EVENT_INVOKE), None, {}, 404, MISSING,
     f"The function {ARN}:none:$LATEST doesn't have an EventInvokeConfig"),
    ("GET", function("f", "/event-invoke-config", EVENT_INVOKE), None, {"Qualifier": "1"}, 404, MISSING,
     f"The function {ARN}:f:1 doesn't have an EventInvokeConfig"),
    ("DELETE", function("f", "/event-invoke-config", EVENT_INVOKE), None, {}, 404, MISSING,
     f"The function {ARN}:f:$LATEST doesn't have an EventInvokeConfig"),
    # concurrency
    ("PUT", function("none", "/concurrency", CONCURRENCY), {"ReservedConcurrentExecutions": 1}, {}, 404, MISSING,
     f"Function not found: {ARN}:none:$LATEST"),
    ("PUT", function("f:1", "/concurrency", CONCURRENCY), {"ReservedConcurrentExecutions": 1}, {}, 400, INVALID,
     "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please "
     "specify either a function name or an unqualified function ARN."),
    ("PUT", function("f", "/concurrency", CONCURRENCY), {"ReservedConcurrentExecutions": 901}, {}, 400, INVALID,
     "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
     "minimum value of [100]."),
    ("GET", function("f", "/provisioned-concurrency", PROVISIONED), None, {"Qualifier": "1"}, 404,
     "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function"),
    ("GET", function("f", "/provisioned-concurrency", PROVISIONED), None, {"Qualifier": "none"}, 404, MISSING,
     f"Cannot find alias arn: {ARN}:f:none"),
    ("GET", function("f", "/provisioned-concurrency", PROVISIONED), None, {"Qualifier": "$LATEST"}, 400, INVALID,
     "The function resource provided must be an alias or a published version."),
    ("PUT", function("f", "/provisioned-concurrency", PROVISIONED), {"ProvisionedConcurrentExecutions": 0},
     {"Qualifier": "1"}, 400, VALIDATION, f"{V1}Value '0' at 'provisionedConcurrentExecutions' failed to satisfy "
     "constraint: Member must have value greater than or equal to 1"),
    ("PUT", function("f", "/provisioned-concurrency", PROVISIONED), {"ProvisionedConcurrentExecutions": 1},
     {"Qualifier": "$LATEST"}, 400, INVALID,
     "Provisioned Concurrency Configs cannot be applied to unpublished function versions."),
    ("PUT", function("f", "/provisioned-concurrency", PROVISIONED), {"ProvisionedConcurrentExecutions": 1001},
     {"Qualifier": "1"}, 400, INVALID,
     "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."),
    ("PUT", function("f", "/provisioned-concurrency", PROVISIONED), {"ProvisionedConcurrentExecutions": 901},
     {"Qualifier": "1"}, 400, INVALID, "Specified ConcurrentExecutions for function decreases account's "
     "UnreservedConcurrentExecution below its minimum value of [100]."),
    # function URLs
    ("GET", function("none", "/url", URL), None, {}, 404, MISSING, "The resource you requested does not exist."),
    ("GET", function("none", "/urls", URL), None, {}, 404, MISSING, "Function does not exist"),
    ("POST", function("f", "/url", URL), {"AuthType": "NONE"}, {"Qualifier": "1"}, 400, VALIDATION,
     f"{V1}Value '1' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: "),
    # permissions
    ("POST", function("f", "/policy"), {**PERMISSION, "StatementId": "example.com"}, {}, 400, VALIDATION,
     f"{V1}Value 'example.com' at 'statementId' failed to satisfy constraint: Member must satisfy regular expression "
     "pattern: "),
    ("POST", function("f", "/policy"), PERMISSION, {"Qualifier": "$LATEST"}, 400, INVALID,
     "We currently do not support adding policies for $LATEST."),
    ("POST", function("f", "/policy"), {**PERMISSION, "Principal": "invalid.nonaws.com"}, {}, 400, INVALID,
     "The provided principal was invalid. Please check the principal and try again."),
    ("POST", function("f", "/policy"), PERMISSION, {"Qualifier": "none"}, 404, MISSING,
     f"Cannot find alias arn: {ARN}:f:none"),
    ("POST", function("f", "/policy"), PERMISSION, {"Qualifier": "42"}, 404, MISSING,
     f"Function not found: {ARN}:f:42"),
    ("DELETE", function("f", "/policy/s"), None, {}, 404, MISSING, "No policy is associated with the given resource."),
    ("DELETE", function("none", "/policy/s"), None, {}, 404, MISSING, f"No policy found for: {ARN}:none"),
    # tags
    ("POST", f"/2017-03-31/tags/{ARN}:none", {"Tags": {"a": "b"}}, {}, 404, MISSING, f"Function not found: {ARN}:none"),
    ("POST", f"/2017-03-31/tags/{ARN}:f:live", {"Tags": {"a": "b"}}, {}, 400, INVALID,
     "Tags on function aliases and versions are not supported. Please specify a function ARN."),
    ("POST", f"/2017-03-31/tags/{ARN}:f", {"Tags": {}}, {}, 400, INVALID,
     "An error occurred and the request cannot be processed."),
    ("DELETE", f"/2017-03-31/tags/{ARN}:f", None, {}, 400, VALIDATION,
     f"{V1}Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"),
    ("POST", f"/2017-03-31/tags/{ARN}:f", {"Tags": {f"k{n}": "v" for n in range(51)}}, {}, 400, INVALID,
     "Number of tags exceeds resource tag limit."),
    # layers
    ("GET", "/2018-10-31/layers", None, {"CompatibleArchitecture": "none"}, 400, VALIDATION,
     f"{V1}Value 'none' at 'compatibleArchitecture' failed to satisfy constraint: Member must satisfy enum value set: "
     "[x86_64, arm64]"),
    ("GET", "/2018-10-31/layers/l/versions/0", None, {}, 400, INVALID, "Layer Version Cannot be less than 1"),
    ("GET", "/2018-10-31/layers/none/versions/1", None, {}, 404, MISSING, "The resource you requested does not exist."),
    ("POST", "/2018-10-31/layers/l/versions/1/policy", {"StatementId": "s", "Action": "*", "Principal": "*"}, {}, 400,
     VALIDATION, f"{V1}Value '*' at 'action' failed to satisfy constraint: Member must satisfy regular expression "
     "pattern: lambda:GetLayerVersion"),
    ("POST", "/2018-10-31/layers/l/versions/2/policy",
     {"StatementId": "s", "Action": "lambda:GetLayerVersion", "Principal": "*"}, {}, 404, MISSING,
     f"Layer version {LAYER}:l:2 does not exist."),
    ("POST", function("", "")[:-1], creation("g", Layers=[f"{LAYER}:none:1"]), {}, 400, INVALID,
     f"Layer version {LAYER}:none:1 does not exist."),
    ("POST", function("", "")[:-1], creation("g", Layers=[f"{LAYER}:l:1", f"{LAYER}:l:1"]), {}, 400, INVALID,
     "Two different versions of the same layer are not allowed to be referenced in the same function. "
     f"{LAYER}:l:1 and {LAYER}:l:1 are versions of the same layer."),
    ("POST", function("", "")[:-1], creation("g", Layers=[f"{LAYER}:l{n}:1" for n in range(6)]), {}, 400, INVALID,
     "Cannot reference more than 5 layers."),
    ("POST", function("", "")[:-1], creation("g", Layers=[f"arn:aws:lambda:eu-west-3:{ACCOUNT}:layer:l:1"]), {}, 400,
     INVALID, f"Layers are not in the same region as the function. Layers are expected to be in region {REGION}."),
    # recursion
    ("PUT", function("f", "/recursion-config", "2024-08-31"), {"RecursiveLoop": "x"}, {}, 400, VALIDATION,
     f"{V1}Value 'x' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy enum value "
     "set: ["),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "place", "document", "query", "status", "code", "message"),
    REFUSALS,
    ids=[f"{number}-{row[0]}-{row[1].split('/', 2)[2][:40]}" for number, row in enumerate(REFUSALS)],
)
async def test_refusals_are_those_of_aws(front, method, place, document, query, status, code, message):
    reply = await front.ask(method, place, document, query=query)
    told = reply.error
    if message.endswith((": ", "set: [")):
        told = (*told[:2], told[2][: len(message)])
    assert told == (status, code, message)


async def test_a_zip_over_50_mebibytes_is_to_come_from_s3(front):
    code = {"ZipFile": base64.b64encode(os.urandom(52_428_801)).decode()}
    reply = await front.ask("POST", function("", "")[:-1], creation("g", Code=code))
    told = (413, "RequestEntityTooLargeException", "Zipped size must be smaller than 52428800 bytes")
    assert reply.error == told


# Members of a configuration in every answer, and those that an answer adds or lacks.
ALWAYS = {
    "Architectures", "CodeSha256", "CodeSize", "Description", "EphemeralStorage", "FunctionArn", "FunctionName",
    "Handler", "LastModified", "LoggingConfig", "MemorySize", "PackageType", "RevisionId", "Role", "Runtime",
    "SnapStart", "Timeout", "TracingConfig", "Version",
}  # fmt: skip
# A member of today's model that the recordings are too old for, and one that only a real runtime gives.
NEWER = {"ConfigSha256", "RuntimeVersionConfig"}
CREATING = {"State", "StateReason", "StateReasonCode"}
UPDATING = {"State", "LastUpdateStatus", "LastUpdateStatusReason", "LastUpdateStatusReasonCode"}


def members(document):
    return set(document) - NEWER


async def test_answers_have_the_members_of_awss(tmp_path):
    front = await Front.open(tmp_path)
    front.background.held = True
    created = (await front.ask("POST", function("", "")[:-1], creation())).json
    assert members(created) == ALWAYS | CREATING
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    assert created["StateReason"] == "The function is being created."
    await front.background.settle()
    found = (await front.ask("GET", function())).json
    assert set(found) == {"Code", "Configuration"}
    assert set(found["Code"]) == {"Location", "RepositoryType"}
    assert members(found["Configuration"]) == ALWAYS | {"State", "LastUpdateStatus"}
    assert found["Configuration"]["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}
    updated = (await front.ask("PUT", function("f", "/configuration"), {"Timeout": 5})).json
    assert members(updated) == ALWAYS | UPDATING
    assert (updated["LastUpdateStatus"], updated["LastUpdateStatusReasonCode"]) == ("InProgress", "Creating")
    assert updated["LastUpdateStatusReason"] == "The function is being created."
    busy = await front.ask("PUT", function("f", "/configuration"), {"Timeout": 6})
    assert busy.error == (
        409, CONFLICT,
        f"The operation cannot be performed at this time. An update is in progress for resource: {ARN}:f",
    )  # fmt: skip
    await front.background.settle()
    version = (await front.ask("POST", function("f", "/versions"), {})).json
    assert members(version) == ALWAYS | {"State", "LastUpdateStatus"}
    assert (version["FunctionArn"], version["State"], version["LastUpdateStatus"]) == (
        f"{ARN}:f:1",
        "Active",
        "Successful",
    )
    listed = (await front.ask("GET", function("f", "/versions"))).json["Versions"]
    assert [members(one) for one in listed] == [ALWAYS, ALWAYS]
    assert [one["FunctionArn"] for one in listed] == [f"{ARN}:f:$LATEST", f"{ARN}:f:1"]
    alias = (await front.ask("POST", function("f", "/aliases"), ALIAS)).json
    assert set(alias) == {"AliasArn", "Description", "FunctionVersion", "Name", "RevisionId"}
    url = (await front.ask("POST", function("f", "/url", URL), {"AuthType": "NONE"})).json
    assert set(url) == {"AuthType", "CreationTime", "FunctionArn", "FunctionUrl"}
    got = (await front.ask("GET", function("f", "/url", URL))).json
    assert set(got) == set(url) | {"InvokeMode", "LastModifiedTime"}
    config = (
        await front.ask("PUT", function("f", "/event-invoke-config", EVENT_INVOKE), {"MaximumRetryAttempts": 1})
    ).json
    assert set(config) == {"DestinationConfig", "FunctionArn", "LastModified", "MaximumRetryAttempts"}
    assert config["DestinationConfig"] == {"OnFailure": {}, "OnSuccess": {}}
    account = (await front.ask("GET", "/2016-08-19/account-settings")).json
    assert set(account) == {"AccountLimit", "AccountUsage"}
    assert set(account["AccountLimit"]) == {
        "CodeSizeUnzipped", "CodeSizeZipped", "ConcurrentExecutions", "TotalCodeSize", "UnreservedConcurrentExecutions"
    }  # fmt: skip
    await front.catalog.close()


TEXT, JSON = {"LogFormat": "Text", "LogGroup": "/aws/lambda/g"}, {"LogFormat": "JSON", "LogGroup": "/aws/lambda/g"}
BOTH = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}


@pytest.mark.parametrize(
    ("before", "given", "after"),
    [
        ({"LogFormat": "JSON"}, {"LogGroup": "cool"}, {**JSON, **BOTH, "LogGroup": "cool"}),
        ({}, {"LogFormat": "JSON"}, {**JSON, **BOTH}),
        ({"LogFormat": "JSON"}, {"LogFormat": "Text"}, TEXT),
        ({}, {"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"}, {**JSON, **BOTH, "ApplicationLogLevel": "DEBUG"}),
        ({}, {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}, {**JSON, **BOTH, "SystemLogLevel": "DEBUG"}),
        ({}, {"LogGroup": "cool"}, {**TEXT, "LogGroup": "cool"}),
    ],
)
async def test_a_part_of_the_logging_config_leaves_the_rest(front, before, given, after):
    await front.function("g", **({"LoggingConfig": before} if before else {}))
    await front.settled()
    updated = await front.ask("PUT", function("g", "/configuration"), {"LoggingConfig": given})
    assert updated.json["LoggingConfig"] == after
    await front.settled()
    assert (await front.ask("GET", function("g", "/configuration"))).json["LoggingConfig"] == after
