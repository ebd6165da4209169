"""The AWS CLI against the front, with the lines that the documentation shows."""

import base64
import json
import threading
import urllib.request

import pytest

from clients.front import ROLE, package

CREATE = (
    "aws lambda create-function --function-name my-function --runtime python3.13 "
    f"--handler lambda_function.lambda_handler --role {ROLE} --zip-file fileb://function.zip"
)


@pytest.fixture
def function(aws, zip_file):
    aws(CREATE)
    aws("aws lambda wait function-active-v2 --function-name my-function")


def test_snap_start_as_the_documentation_shows_it(aws, function, live):
    updated = aws(
        "aws lambda update-function-configuration --function-name my-function --snap-start ApplyOn=PublishedVersions"
    )
    assert updated["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    aws("aws lambda wait function-updated-v2 --function-name my-function")
    live.front.background.held = True
    published = aws("aws lambda publish-version --function-name my-function")
    assert (published["Version"], published["State"]) == ("1", "Pending")
    refused = aws("aws lambda invoke --function-name my-function --qualifier 1 response.json", fails=True)
    assert "ResourceConflictException" in refused
    assert "The function is currently in the following state: Pending" in refused
    settle = threading.Timer(1.0, lambda: live.run(live.front.background.settle()))
    settle.start()
    aws("aws lambda wait published-version-active --function-name my-function --qualifier 1")
    settle.join()
    ready = aws("aws lambda get-function-configuration --function-name my-function:1")
    assert (ready["State"], ready["SnapStart"]["OptimizationStatus"]) == ("Active", "On")


def test_invoking_with_a_qualifier_and_the_log(aws, function, tmp_path):
    aws("aws lambda publish-version --function-name my-function --description first")
    answer = aws(
        "aws lambda invoke --function-name my-function --qualifier 1 --log-type Tail --payload",
        '{"key": "value"}',
        "response.json",
    )
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "1")
    assert len(base64.b64decode(answer["LogResult"])) == 4096
    assert json.loads((tmp_path / "response.json").read_text()) == {"key": "value"}


def test_a_function_error_is_shown(aws, function, tmp_path):
    answer = aws("aws lambda invoke --function-name my-function --payload", '{"raise": "boom"}', "response.json")
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads((tmp_path / "response.json").read_text())["errorMessage"] == "boom"


def test_a_round_trip_through_code_and_aliases(aws, function):
    location = aws("aws lambda get-function --function-name my-function")["Code"]["Location"]
    with urllib.request.urlopen(location) as answer:
        assert answer.read() == package()
    aws("aws lambda update-function-code --function-name my-function --publish --zip-file fileb://function.zip")
    aws("aws lambda create-alias --function-name my-function --name live --function-version 1")
    aws("aws lambda update-alias --function-name my-function --name live --description new")
    listed = aws("aws lambda list-aliases --function-name my-function")["Aliases"]
    assert [(item["Name"], item["Description"]) for item in listed] == [("live", "new")]
    assert len(aws("aws lambda list-versions-by-function --function-name my-function")["Versions"]) == 2
    refused = aws("aws lambda delete-function --function-name my-function --qualifier 1", fails=True)
    assert "Unable to delete version because the following aliases reference it: [live]" in refused
    aws("aws lambda delete-alias --function-name my-function --name live")
    aws("aws lambda delete-function --function-name my-function")
    assert "ResourceNotFoundException" in aws("aws lambda get-function --function-name my-function", fails=True)


def test_errors_are_told_as_lambda_tells_them(aws, function):
    refused = aws(
        "aws lambda update-function-configuration --function-name my-function --snap-start ApplyOn=x", fails=True
    )
    assert (
        "An error occurred (ValidationException) when calling the UpdateFunctionConfiguration operation: "
        "1 validation error detected: Value 'x' at 'snapStart.applyOn' failed to satisfy constraint: "
        "Member must satisfy enum value set: [PublishedVersions, None]" in refused
    )
    refused = aws("aws lambda list-capacity-providers", fails=True)
    assert "The operation ListCapacityProviders is not implemented by this server yet." in refused


def test_permissions_and_concurrency(aws, function):
    added = aws(
        "aws lambda add-permission --function-name my-function --statement-id s3 --action lambda:InvokeFunction "
        "--principal s3.amazonaws.com --source-arn arn:aws:s3:::bucket"
    )
    assert json.loads(added["Statement"])["Principal"] == {"Service": "s3.amazonaws.com"}
    found = aws("aws lambda get-policy --function-name my-function")
    assert json.loads(found["Policy"])["Statement"] == [json.loads(added["Statement"])]
    aws("aws lambda remove-permission --function-name my-function --statement-id s3")
    assert "ResourceNotFoundException" in aws("aws lambda get-policy --function-name my-function", fails=True)
    aws("aws lambda put-function-concurrency --function-name my-function --reserved-concurrent-executions 5")
    shown = aws("aws lambda get-function-concurrency --function-name my-function")
    assert shown == {"ReservedConcurrentExecutions": 5}
    aws("aws lambda delete-function-concurrency --function-name my-function")
    aws("aws lambda put-function-event-invoke-config --function-name my-function --maximum-retry-attempts 0")
    listed = aws("aws lambda list-function-event-invoke-configs --function-name my-function")
    assert [one["MaximumRetryAttempts"] for one in listed["FunctionEventInvokeConfigs"]] == [0]


def test_layers_as_the_documentation_shows_them(aws, function):
    layer = aws(
        "aws lambda publish-layer-version --layer-name my-layer --license-info MIT --zip-file fileb://function.zip "
        "--compatible-runtimes python3.12 python3.13 --compatible-architectures x86_64"
    )
    arn = layer["LayerVersionArn"]
    updated = aws(f"aws lambda update-function-configuration --function-name my-function --layers {arn}")
    assert [one["Arn"] for one in updated["Layers"]] == [arn]
    aws("aws lambda wait function-updated-v2 --function-name my-function")
    listed = aws("aws lambda list-layers --compatible-runtime python3.13")
    assert [one["LayerName"] for one in listed["Layers"]] == ["my-layer"]
    aws(
        "aws lambda add-layer-version-permission --layer-name my-layer --version-number 1 --statement-id all "
        "--action lambda:GetLayerVersion --principal *"
    )
    aws("aws lambda delete-layer-version --layer-name my-layer --version-number 1")
    kept = aws("aws lambda get-function-configuration --function-name my-function")
    assert [one["Arn"] for one in kept["Layers"]] == [arn]
