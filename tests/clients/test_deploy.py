"""`thaw deploy` against a server through boto3: creates, keeps, changes, removes, and puts back what failed."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import urllib.request
import zipfile

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from clients.front import ACCOUNT, REGION
from thaw.deploy.asking import place_of
from thaw.deploy.change import Action, Context
from thaw.deploy.deployment import deploy, remove
from thaw.deploy.placeholders import Place
from thaw.deploy.plan import plan
from thaw.deploy.template import load
from thaw.errors import DeployFailed, TemplateError

# The example of the guide "How to Create AWS Lambda SnapStart", as it was published.
PUBLISHED = """\
# template.yaml
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31

Resources:
  MyFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: my-snapstart-function
      Runtime: java21
      Handler: com.example.Handler::handleRequest
      CodeUri: target/my-function.jar
      MemorySize: 512
      Timeout: 30
      # Enable SnapStart for published versions
      SnapStart:
        ApplyOn: PublishedVersions
      AutoPublishAlias: live
"""
# What the sample behind "Reducing Java cold starts" declares: an API, a table, tracing, SnapStart behind an alias.
STORE = """\
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: java21, MemorySize: 2048, Timeout: 29}
Resources:
  StoreApi:
    Type: AWS::Serverless::Api
    Properties: {StageName: prod, TracingEnabled: true}
  StoreFunction:
    Type: AWS::Serverless::Function
    Properties:
      Handler: com.example.store.Handler::handleRequest
      CodeUri: target
      Tracing: Active
      AutoPublishAlias: live
      SnapStart: {ApplyOn: PublishedVersions}
      Environment: {Variables: {TABLE: !Ref Table}}
      Policies:
        - DynamoDBCrudPolicy: {TableName: !Ref Table}
        - arn:aws:iam::aws:policy/AWSXRayDaemonWriteAccess
      Events:
        All: {Type: Api, Properties: {Path: '/{proxy+}', Method: ANY, RestApiId: !Ref StoreApi}}
  Table:
    Type: AWS::Serverless::SimpleTable
    Properties: {PrimaryKey: {Name: id, Type: String}}
Outputs:
  Endpoint: {Value: !Sub 'https://${StoreApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}/prod/'}
"""
PLAIN = """\
Parameters:
  Memory: {Type: Number, Default: 256}
  Word: {Type: String, Default: hello}
Conditions:
  HasUrl: !Not [!Equals [!Ref Word, silent]]
Resources:
  Function:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: plain
      Runtime: python3.13
      Handler: app.handler
      Code: code
      Role: !GetAtt Role.Arn
      MemorySize: !Ref Memory
      Timeout: 7
      Description: !Sub 'says ${Word}'
      Layers: [!Ref Layer]
      Environment: {Variables: {WORD: !Ref Word}}
      ReservedConcurrentExecutions: 5
      RecursiveLoop: Allow
      Tags: [{Key: team, Value: a}]
  Role: {Type: AWS::IAM::Role}
  Layer:
    Type: AWS::Lambda::LayerVersion
    Properties: {Content: layer, CompatibleRuntimes: [python3.13], Description: shared}
  Shared:
    Type: AWS::Lambda::LayerVersionPermission
    Properties: {Action: 'lambda:GetLayerVersion', LayerVersionArn: !Ref Layer, Principal: '*'}
  Version:
    Type: AWS::Lambda::Version
    Properties: {FunctionName: !Ref Function, Description: first}
  Alias:
    Type: AWS::Lambda::Alias
    Properties: {FunctionName: !Ref Function, FunctionVersion: !GetAtt Version.Version, Name: live}
  Url:
    Type: AWS::Lambda::Url
    Condition: HasUrl
    Properties: {TargetFunctionArn: !Ref Alias, AuthType: NONE, Cors: {AllowOrigins: ['*'], MaxAge: '60'}}
  Permission:
    Type: AWS::Lambda::Permission
    Properties: {FunctionName: !Ref Alias, Action: 'lambda:InvokeFunction', Principal: '123456789012'}
  Async:
    Type: AWS::Lambda::EventInvokeConfig
    Properties: {FunctionName: !Ref Function, Qualifier: '$LATEST', MaximumRetryAttempts: 1}
Outputs:
  Arn: {Value: !GetAtt Function.Arn}
"""
MODULE = "def handler(event, context):\n    return {!r}\n"


class Stack:
    """One stack of one template in a folder, deployed again and again."""

    def __init__(self, client, folder, name="s"):
        self.client = client
        self.folder = folder
        self.name = name
        self.told = []
        for place, content in (("code/app.py", MODULE.format(1)), ("layer/python/own.py", "x = 1\n")):
            self.write(place, content)

    def write(self, place, content):
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def load(self, text, **overrides):
        self.write("template.yaml", text)
        template = load(
            self.folder / "template.yaml", stack=self.name, place=Place(REGION, ACCOUNT), overrides=overrides
        )
        return Context(self.client, template.place, self.name, template.codes), template

    def plan(self, text, **overrides):
        """What would change: sign and logical id, sorted."""
        found = plan(*self.load(text, **overrides))
        changes = (*found.changes, *found.removed)
        return sorted(
            (change.action.value, change.logical_id) for change in changes if change.action is not Action.KEEP
        )

    def deploy(self, text, **overrides):
        self.told = []
        return deploy(*self.load(text, **overrides), self.told.append)

    def refused(self, text, error=DeployFailed, **overrides):
        with pytest.raises(error) as refused:
            self.deploy(text, **overrides)
        return str(refused.value)

    def state(self):
        """Everything that the server has, without what changes by itself (moments, revisions, links)."""
        client = self.client
        return {
            item["FunctionName"]: self._function(item["FunctionName"]) for item in client.list_functions()["Functions"]
        }

    def _function(self, name):
        client = self.client
        there = client.get_function(FunctionName=name)
        configuration = {
            key: value for key, value in there["Configuration"].items() if key not in ("LastModified", "RevisionId")
        }
        aliases = client.list_aliases(FunctionName=name)["Aliases"]
        wheres = [{}, *({"Qualifier": alias["Name"]} for alias in aliases)]
        return {
            "configuration": configuration,
            "tags": there.get("Tags"),
            "concurrency": there.get("Concurrency"),
            "versions": [item["Version"] for item in client.list_versions_by_function(FunctionName=name)["Versions"]],
            "aliases": [(alias["Name"], alias["FunctionVersion"]) for alias in aliases],
            "urls": [
                (one["FunctionUrl"], one["AuthType"], one.get("Cors"))
                for one in client.list_function_url_configs(FunctionName=name)["FunctionUrlConfigs"]
            ],
            "policies": [self._policy({"FunctionName": name, **where}) for where in wheres],
            "recursion": client.get_function_recursion_config(FunctionName=name)["RecursiveLoop"],
            "asynchronous": [
                config.get("MaximumRetryAttempts")
                for config in client.list_function_event_invoke_configs(FunctionName=name)["FunctionEventInvokeConfigs"]
            ],
        }

    def _policy(self, where):
        try:
            return json.loads(self.client.get_policy(**where)["Policy"])["Statement"]
        except ClientError:
            return None


@pytest.fixture
def stack(client, tmp_path):
    return Stack(client, tmp_path / "project")


def test_the_server_says_where_it_is(client):
    assert place_of(client) == Place(REGION, ACCOUNT)


def test_a_server_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    client = boto3.client(
        "lambda", endpoint_url=url, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    with pytest.raises(DeployFailed) as refused:
        place_of(client)
    assert str(refused.value) == (
        f'No server answers at {url} (Could not connect to the endpoint URL: "{url}/2015-03-31/functions/'
        'thaw-deploy-asks-where-this-is"): start one with `thaw serve`, or name its --endpoint-url.'
    )


# --- what was published, verbatim -------------------------------------------------------------------------------------


def test_the_published_template_applies_verbatim_and_twice_changes_nothing(stack, client):
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("com/example/Handler.class", b"\xca\xfe\xba\xbe")
    stack.write("target/my-function.jar", jar.getvalue())
    done = stack.deploy(PUBLISHED)
    assert (done.counts[Action.CREATE], done.counts[Action.UPDATE]) == (3, 0)
    live = client.get_function(FunctionName="my-snapstart-function", Qualifier="live")["Configuration"]
    assert (live["Version"], live["SnapStart"]) == (
        "1", {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"},
    )  # fmt: skip
    assert (live["Runtime"], live["MemorySize"], live["Timeout"]) == ("java21", 512, 30)
    latest = client.get_function(FunctionName="my-snapstart-function")
    with urllib.request.urlopen(latest["Code"]["Location"]) as answer:
        assert answer.read() == jar.getvalue()
    before = stack.state()
    assert stack.plan(PUBLISHED) == []
    again = stack.deploy(PUBLISHED)
    assert again.counts == {Action.CREATE: 0, Action.UPDATE: 0, Action.DELETE: 0, Action.KEEP: 3}
    assert stack.told == []
    assert stack.state() == before


def test_the_sample_with_an_api_and_a_table_applies(stack, client):
    stack.write("target/app.jar", b"PK")
    context, template = stack.load(STORE)
    planned = plan(context, template)
    left_out = [one.logical_id for one in planned.left_out]
    assert {"StoreApi", "Table", "StoreFunctionRole", "StoreApiprodStage"} <= set(left_out)
    done = deploy(context, template, stack.told.append)
    function = client.get_function_configuration(FunctionName="s-StoreFunction", Qualifier="live")
    assert function["Environment"] == {"Variables": {"TABLE": "s-Table"}}
    assert function["TracingConfig"] == {"Mode": "Active"}
    assert template.outputs(done.attributes) == {
        "Endpoint": "https://storeapi.execute-api.us-east-1.amazonaws.com/prod/"
    }
    assert stack.plan(STORE) == []


# --- create, change, remove -------------------------------------------------------------------------------------------


def test_everything_of_a_function_is_created(stack):
    done = stack.deploy(PLAIN)
    assert done.counts == {Action.CREATE: 8, Action.UPDATE: 0, Action.DELETE: 0, Action.KEEP: 0}
    found = stack.state()["plain"]
    configuration = found["configuration"]
    layer = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:s-Layer:1"
    assert [item["Arn"] for item in configuration["Layers"]] == [layer]
    assert (configuration["MemorySize"], configuration["Timeout"], configuration["Description"]) == (
        256,
        7,
        "says hello",
    )
    assert configuration["Role"] == f"arn:aws:iam::{ACCOUNT}:role/s-Role"
    assert found["tags"] == {
        "team": "a",
        "thaw:stack": "s",
        "thaw:logical-id": "Function",
        "thaw:owns:version:1": "Version",
        "thaw:owns:alias:live": "Alias",
        "thaw:owns:url:live": "Url",
        "thaw:owns:event-invoke:@latest": "Async",
    }
    assert (found["versions"], found["aliases"]) == (["$LATEST", "1"], [("live", "1")])
    assert (found["concurrency"], found["recursion"]) == ({"ReservedConcurrentExecutions": 5}, "Allow")
    assert [statement["Sid"] for statement in found["policies"][1]] == ["thaw-s-Permission"]
    assert found["asynchronous"] == [1]
    assert found["urls"][0][1:] == ("NONE", {"AllowOrigins": ["*"], "MaxAge": 60})


def test_a_second_run_changes_nothing(stack):
    stack.deploy(PLAIN)
    before = stack.state()
    assert stack.plan(PLAIN) == []
    assert stack.deploy(PLAIN).counts[Action.KEEP] == 8
    assert stack.state() == before


def test_a_plan_changes_nothing(stack):
    assert [sign for sign, _ in stack.plan(PLAIN)] == ["+"] * 8
    assert stack.state() == {}


def test_parameters_change_only_what_they_say(stack):
    stack.deploy(PLAIN)
    assert stack.plan(PLAIN, Memory="512") == [("~", "Function")]
    changes = plan(*stack.load(PLAIN, Memory="512", Word="bye")).changes
    function = next(change for change in changes if change.logical_id == "Function")
    assert [(one.name, one.before, one.after) for one in function.differences] == [
        ("Description", "says hello", "says bye"),
        ("Environment.Variables.WORD", "hello", "bye"),
        ("MemorySize", 256, 512),
    ]
    stack.deploy(PLAIN, Memory="512", Word="bye")
    assert stack.state()["plain"]["configuration"]["Environment"] == {"Variables": {"WORD": "bye"}}
    assert stack.plan(PLAIN, Memory="512", Word="bye") == []


def test_a_change_of_settings_only_says_that_no_version_is_published(stack):
    stack.deploy(PLAIN)
    assert plan(*stack.load(PLAIN, Memory="512")).notes == (
        "Function changes, but no version is published, because Version is still the same: as on AWS, SAM publishes "
        "for new code only, unless AutoPublishAliasAllProperties is true.",
    )


def test_what_leaves_the_template_is_removed(stack, client):
    stack.deploy(PLAIN)
    client.create_alias(FunctionName="plain", Name="by-hand", FunctionVersion="$LATEST")
    client.add_permission(FunctionName="plain", StatementId="by-hand", Action="lambda:InvokeFunction", Principal="*")
    less = PLAIN.replace("Version:\n    Type: AWS::Lambda::Version", "Second:\n    Type: AWS::Lambda::Version")
    less = less.replace("Version.Version", "Second.Version").replace("Principal: '123456789012'", "Principal: '*'")
    less = less[: less.index("  Async:")] + less[less.index("Outputs:") :]
    stack.write("code/app.py", MODULE.format(2))
    assert stack.plan(less, Word="silent") == [
        ("+", "Second"), ("-", "Async"), ("-", "Url"), ("-", "Version"), ("~", "Alias"), ("~", "Function"),
        ("~", "Permission"),
    ]  # fmt: skip
    done = stack.deploy(less, Word="silent")
    assert done.counts[Action.DELETE] == 3
    found = stack.state()["plain"]
    assert (found["versions"], found["urls"], found["asynchronous"]) == (["$LATEST", "2"], [], [])
    assert found["aliases"] == [("by-hand", "$LATEST"), ("live", "2")]
    assert [statement["Sid"] for statement in found["policies"][0]] == ["by-hand"]
    assert stack.plan(less, Word="silent") == []


def test_a_function_that_leaves_the_template_goes_and_one_that_is_retained_stays(stack):
    both = PLAIN + ""
    extra = """\
  Gone: {Type: AWS::Lambda::Function, Properties: {Handler: app.handler, Runtime: python3.13, Code: code, Role: r}}
  Kept:
    Type: AWS::Lambda::Function
    DeletionPolicy: Retain
    Properties: {Handler: app.handler, Runtime: python3.13, Code: code, Role: 'arn:aws:iam::000000000000:role/r'}
""".replace("Role: r}", "Role: 'arn:aws:iam::000000000000:role/r'}")
    stack.deploy(both.replace("Outputs:", extra + "Outputs:"))
    assert sorted(stack.state()) == ["plain", "s-Gone", "s-Kept"]
    assert stack.plan(PLAIN) == [("-", "Gone")]
    stack.deploy(PLAIN)
    assert sorted(stack.state()) == ["plain", "s-Kept"]
    assert not stack.state()["s-Kept"]["tags"]
    assert stack.plan(PLAIN) == []


def test_a_stack_is_removed_whole(stack, client):
    stack.deploy(PLAIN)
    other = Stack(client, stack.folder, "other")
    other.deploy(PLAIN.replace("FunctionName: plain", "FunctionName: another"))
    assert remove(Context(client, Place(REGION, ACCOUNT), "s"), stack.told.append) == 1
    assert sorted(stack.state()) == ["another"]


def test_a_function_of_another_stack_is_refused(stack, client):
    stack.deploy(PLAIN)
    other = Stack(client, stack.folder, "other")
    assert other.refused(PLAIN) == (
        "The stack other was not deployed: Layer (version of layer other-Layer) failed: Function is to be the function "
        "plain, which belongs to the stack s: give it another FunctionName, or deploy under that --stack-name. "
        "Everything that had been changed was put back."
    )


def test_a_function_that_was_made_by_hand_is_taken_over(stack, client):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", "x = 1\n")
    client.create_function(
        FunctionName="plain", Runtime="python3.13", Handler="app.handler", Role=f"arn:aws:iam::{ACCOUNT}:role/hand",
        Code={"ZipFile": buffer.getvalue()},
    )  # fmt: skip
    client.get_waiter("function_active_v2").wait(FunctionName="plain")
    changes = plan(*stack.load(PLAIN)).changes
    function = next(change for change in changes if change.logical_id == "Function")
    assert function.action is Action.UPDATE
    assert ("Stack", "none: it was made otherwise", "s") in [
        (one.name, one.before, one.after) for one in function.differences
    ]
    stack.deploy(PLAIN)
    assert stack.plan(PLAIN) == []


# --- failures ---------------------------------------------------------------------------------------------------------

SNAPPED = PLAIN.replace("Timeout: 7", "Timeout: 7\n      SnapStart: {ApplyOn: PublishedVersions}").replace(
    "      ReservedConcurrentExecutions: 5\n", ""
)


def test_a_failing_publish_takes_a_new_stack_back(stack, live, client):
    live.front.background.fails = True
    assert stack.refused(SNAPPED) == (
        "The stack s was not deployed: Version (version of plain) failed: plain:1 failed: An error occurred during "
        "function initialization. Everything that had been changed was put back."
    )
    assert stack.state() == {}
    assert client.list_layers()["Layers"] == []
    assert stack.told[-6:] == [
        "Version (version of plain) failed: putting back what was changed",
        "deleting version 1 of plain",
        "removing the permission of * on a layer",
        "putting back RecursiveLoop of function plain",
        "deleting function plain",
        "deleting version 1 of layer s-Layer",
    ]
    live.front.background.fails = False
    stack.deploy(SNAPPED)
    assert stack.plan(SNAPPED) == []


def test_a_failing_publish_takes_an_update_back(stack, live):
    stack.deploy(SNAPPED)
    before = stack.state()
    changed = SNAPPED.replace("Version:\n    Type: AWS::Lambda::Version", "Second:\n    Type: AWS::Lambda::Version")
    changed = (
        changed.replace("Version.Version", "Second.Version")
        .replace("Value: a", "Value: b")
        .replace("Allow\n", "Terminate\n")
    )
    stack.write("code/app.py", MODULE.format(2))
    stack.write("layer/python/own.py", "x = 2\n")
    live.front.background.fails = True
    assert stack.refused(changed, Memory="1024") == (
        "The stack s was not deployed: Second (version of plain) failed: plain:2 failed: An error occurred during "
        "function initialization. Everything that had been changed was put back."
    )
    assert stack.state() == before


def test_a_failure_after_the_version_takes_the_version_back(stack):
    stack.deploy(SNAPPED)
    before = stack.state()
    changed = SNAPPED.replace("Version:\n    Type: AWS::Lambda::Version", "Second:\n    Type: AWS::Lambda::Version")
    changed = changed.replace("Version.Version", "Second.Version").replace(
        "Principal: '123456789012'", "Principal: 'nobody'"
    )
    stack.write("code/app.py", MODULE.format(2))
    assert stack.refused(changed) == (
        "The stack s was not deployed: Permission (permission of nobody on plain:live) failed: "
        "InvalidParameterValueException: The provided principal was invalid. Please check the principal and try again. "
        "Everything that had been changed was put back."
    )
    assert stack.state() == before


def test_a_step_back_that_fails_is_named(stack, live, client, monkeypatch):
    stack.deploy(SNAPPED)
    live.front.background.fails = True
    stack.write("code/app.py", MODULE.format(2))
    changed = SNAPPED.replace("Version:\n    Type: AWS::Lambda::Version", "Second:\n    Type: AWS::Lambda::Version")
    monkeypatch.setattr(client, "delete_function", lambda **_: client.get_alias(FunctionName="plain", Name="none"))
    said = stack.refused(changed.replace("Version.Version", "Second.Version"))
    assert said == (
        "The stack s was not deployed: Second (version of plain) failed: plain:2 failed: An error occurred during "
        "function initialization. These steps back failed, so look at the stack: deleting version 2 of plain did not "
        "succeed (ResourceNotFoundException: Cannot find alias arn: "
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:plain:none)."
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("a fault of our own")])
def test_whatever_ends_a_deployment_everything_is_put_back(stack, client, monkeypatch, error):
    def interrupted(**_):
        raise error

    monkeypatch.setattr(client, "create_alias", interrupted)
    if isinstance(error, KeyboardInterrupt):
        assert stack.refused(PLAIN) == (
            "The stack s was not deployed: Alias (alias plain:live) failed: it was interrupted. "
            "Everything that had been changed was put back."
        )
    else:
        with pytest.raises(ZeroDivisionError):
            stack.deploy(PLAIN)
    assert stack.state() == {}
    assert client.list_layers()["Layers"] == []


EVERYTHING = """
Resources:
  F:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: full
      Runtime: python3.13
      Handler: app.handler
      Code: {ZipFile: 'def handler(event, context): return 1'}
      Role: arn:aws:iam::000000000000:role/full
      Description: all of it
      MemorySize: '512'
      Timeout: '9'
      Architectures: [x86_64]
      DeadLetterConfig: {TargetArn: 'arn:aws:sqs:us-east-1:000000000000:dead'}
      Environment: {Variables: {NUMBER: 5, FLAG: true}}
      EphemeralStorage: {Size: 1024}
      KmsKeyArn: arn:aws:kms:us-east-1:000000000000:key/11111111-2222-3333-4444-555555555555
      LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: DEBUG, LogGroup: /own/group}
      PackageType: Zip
      RecursiveLoop: Allow
      ReservedConcurrentExecutions: '10'
      RuntimeManagementConfig: {UpdateRuntimeOn: FunctionUpdate}
      Tags: [{Key: a, Value: b}]
      TracingConfig: {Mode: Active}
      VpcConfig: {SubnetIds: [subnet-1], SecurityGroupIds: [sg-1]}
  V1: {Type: AWS::Lambda::Version, Properties: {FunctionName: !Ref F}}
  A:
    Type: AWS::Lambda::Alias
    Properties:
      FunctionName: !GetAtt F.Arn
      FunctionVersion: !GetAtt V1.Version
      Name: live
      Description: the one
      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: '2'}
  P:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !GetAtt F.Arn
      Action: lambda:InvokeFunction
      Principal: s3.amazonaws.com
      SourceAccount: !Ref AWS::AccountId
      SourceArn: arn:aws:s3:::bucket
  E:
    Type: AWS::Lambda::EventInvokeConfig
    Properties:
      FunctionName: !Ref F
      Qualifier: live
      MaximumRetryAttempts: '0'
      MaximumEventAgeInSeconds: 60
      DestinationConfig: {OnFailure: {Destination: 'arn:aws:sqs:us-east-1:000000000000:dead'}, OnSuccess: {}}
    DependsOn: A
"""


def test_every_property_is_applied_and_found_again(stack, client):
    assert stack.deploy(EVERYTHING).counts[Action.CREATE] == 5
    assert stack.plan(EVERYTHING) == []
    found = client.get_function(FunctionName="full")["Configuration"]
    assert (found["MemorySize"], found["Timeout"], found["EphemeralStorage"]) == (512, 9, {"Size": 1024})
    assert found["Environment"]["Variables"] == {"NUMBER": "5", "FLAG": "true"}
    assert (found["LoggingConfig"]["LogFormat"], found["LoggingConfig"]["LogGroup"]) == ("JSON", "/own/group")
    provisioned = client.get_provisioned_concurrency_config(FunctionName="full", Qualifier="live")
    assert provisioned["RequestedProvisionedConcurrentExecutions"] == 2


def test_what_is_taken_out_of_a_template_goes_back_to_its_default(stack, client):
    bare = EVERYTHING[: EVERYTHING.index("      Description: all of it")] + EVERYTHING[EVERYTHING.index("  V1:") :]
    bare = bare.replace("      ProvisionedConcurrencyConfig: {ProvisionedConcurrentExecutions: '2'}\n", "")
    stack.deploy(EVERYTHING)
    assert stack.plan(bare) == [("~", "A"), ("~", "F")]
    stack.deploy(bare)
    assert stack.plan(bare) == []
    fresh = Stack(client, stack.folder / "fresh", "fresh")
    fresh.deploy(bare.replace("FunctionName: full", "FunctionName: bare"))
    state = stack.state()
    told = {
        name: {
            key: value
            for key, value in state[name]["configuration"].items()
            if "Arn" not in key and key != "LoggingConfig"
        }
        for name in ("full", "bare")
    }
    differing = {key for key in told["bare"] if told["full"].get(key) != told["bare"][key]}
    assert differing == {"FunctionName", "ConfigSha256"}
    assert stack.deploy(EVERYTHING).counts[Action.UPDATE] == 2
    assert stack.plan(EVERYTHING) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Timeout: 7", "Timeout: soon", "Function.Timeout is 'soon', but must be a number."),
        (
            "Timeout: 7", "TimeOut: 7",
            "Function.TimeOut is no property that Lambda has: take it out, or correct its name.",
        ),
        (
            "Code: code", "Code: {ImageUri: x}",
            "Function is a container image, which this server does not run: make it a zip (PackageType: Zip).",
        ),
        ("      Code: code\n", "", "Function has no code: add Code (CodeUri in SAM), a path beside the template."),
        ("[{Key: team, Value: a}]", "[team]", "Function.Tags must be a list of Key and Value: correct it there."),
        ("Name: live", "Description: x", "Alias needs a FunctionName and a Name: add what is missing."),
        (
            "GetAtt Role.Arn", "GetAtt Roll.Arn",
            "Function.Role asks for Roll.Arn, but the template has no resource Roll: add it.",
        ),
        (
            "GetAtt Function.Arn", "GetAtt Function.Id",
            "Outputs.Arn asks for Function.Id, but the attributes of Function are: Arn, SnapStartResponse.ApplyOn, "
            "SnapStartResponse.OptimizationStatus.",
        ),
    ],
)  # fmt: skip
def test_templates_that_mean_nothing_here(stack, old, new, said):
    with pytest.raises(TemplateError) as refused:
        plan(*stack.load(PLAIN.replace(old, new)))
    assert str(refused.value) == said
    assert stack.state() == {}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def thaw(live, stack):
    def run(*words, status=0):
        command = [sys.executable, "-m", "thaw.cli", "deploy", "--endpoint-url", live.url, "--stack-name", "s", *words]
        done = subprocess.run(command, cwd=stack.folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr

    return run


def test_the_command_shows_a_diff_progress_and_outputs(thaw, stack, live):
    stack.write("template.yaml", PLAIN.replace("Word: {", "Word: {NoEcho: true, "))
    shown = thaw("--dry-run")
    assert "  + Function    function plain\n" in shown
    assert "hello" not in shown
    assert "Nothing was changed (--dry-run)." in shown
    assert stack.state() == {}
    shown = thaw()
    assert "• creating function plain\n" in shown
    assert "Deployed: 8 created in " in shown
    assert f"  Arn  arn:aws:lambda:{REGION}:{ACCOUNT}:function:plain\n" in shown
    assert "Role (AWS::IAM::Role) is left out" in shown
    assert "Nothing changes: the server has what the template says.\n" in thaw()
    shown = thaw("--diff", "--parameter-overrides", "Memory=512 Word=silent")
    assert "  ~ Function  function plain\n" in shown
    assert "MemorySize                  256 → 512\n" in shown
    assert "  - Url       url live of plain\n" in shown
    assert "Removed the stack s: 1 deleted.\n" in thaw("--remove")
    assert stack.state() == {}


def test_the_command_ends_with_one_sentence(thaw, stack, live):
    stack.write("template.yaml", SNAPPED)
    live.front.background.fails = True
    assert thaw(status=1) == (
        "thaw: The stack s was not deployed: Version (version of plain) failed: plain:1 failed: An error occurred "
        "during function initialization. Everything that had been changed was put back.\n"
    )
    assert (
        thaw("nowhere.yaml", status=1) == "thaw: There is no template nowhere.yaml: name one, such as template.yaml.\n"
    )
    expected = "thaw: 'Memory' is no parameter override: write it as Name=value.\n"
    assert thaw("--parameter-overrides", "Memory", status=1) == expected
