"""Templates: read, filled in, translated, put in order; and the sentence for each way in which they can be wrong."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import pytest

from thaw.deploy.code import not_built, package_of
from thaw.deploy.intrinsics import NO_VALUE, Resolver, Unknown, references
from thaw.deploy.parameters import parameter_values
from thaw.deploy.placeholders import Place, placeholder, sentence
from thaw.deploy.source import read_document
from thaw.deploy.template import load
from thaw.errors import TemplateError

PLACE = Place("us-east-1", "123456789012")
HEAD = "Transform: AWS::Serverless-2016-10-31\nResources:\n"
FUNCTION = """
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: app.handler
      CodeUri: src
      AutoPublishAlias: live
"""


@pytest.fixture
def write(tmp_path):
    """Writes template.yaml beside a folder src with one module; returns the template's path."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("def handler(event, context):\n    return event\n")

    def make(text):
        path = tmp_path / "template.yaml"
        path.write_text(text)
        return path

    return make


def loaded(path, **overrides):
    return load(path, stack="s", place=PLACE, overrides=overrides)


def refusal(call, *arguments, **named):
    with pytest.raises(TemplateError) as refused:
        call(*arguments, **named)
    return str(refused.value)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_short_tags_are_written_out_and_dates_stay_text(write):
    document = read_document(
        write(
            """
AWSTemplateFormatVersion: 2010-09-09
Resources:
  F:
    Type: AWS::Lambda::Function
    Properties:
      A: !Ref X
      B: !GetAtt X.Arn
      C: !Sub ["${Y}-z", {Y: !Ref X}]
      D: !If [C, !Ref X, [1, {E: !Join ["", [a]]}]]
"""
        )
    )
    assert document["AWSTemplateFormatVersion"] == "2010-09-09"
    assert document["Resources"]["F"]["Properties"] == {
        "A": {"Ref": "X"},
        "B": {"Fn::GetAtt": ["X", "Arn"]},
        "C": {"Fn::Sub": ["${Y}-z", {"Y": {"Ref": "X"}}]},
        "D": {"Fn::If": ["C", {"Ref": "X"}, [1, {"E": {"Fn::Join": ["", ["a"]]}}]]},
    }


def test_json_templates(tmp_path):
    path = tmp_path / "template.json"
    path.write_text(json.dumps({"Resources": {"B": {"Type": "AWS::S3::Bucket"}}}))
    assert [one.kind for one in loaded(path).resources] == ["AWS::S3::Bucket"]


def test_a_template_that_is_not_there(tmp_path):
    path = tmp_path / "none.yaml"
    assert refusal(read_document, path) == f"There is no template {path}: name one, such as template.yaml."


def test_a_template_that_is_a_folder(tmp_path):
    expected = f"The template {tmp_path} cannot be read (Is a directory): name another file."
    assert refusal(read_document, tmp_path) == expected


def test_a_template_that_is_no_text(tmp_path):
    path = tmp_path / "template.yaml"
    path.write_bytes(b"\xff\xfe")
    expected = f"The template {path} cannot be read (it is not UTF-8 text): name another file."
    assert refusal(read_document, path) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Resources:\n  F: [1", "is no valid YAML at line 2, column 8 (expected ',' or ']', but got '<stream end>')"),
        ("Resources: {A: 1, A: 2}", "is no valid YAML at line 1, column 12 (the key 'A' is there twice)"),
        ('{"Resources": }', "is no valid JSON at line 1, column 15 (Expecting value)"),
    ],
)
def test_text_that_is_no_yaml_or_json(write, text, said):
    path = write(text)
    assert refusal(read_document, path) == f"{path} {said}: correct it there."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "{path} is no template: its outermost level must be a mapping with Resources."),
        ("a: 1", "{path} has no Resources: name at least one, such as an AWS::Serverless::Function."),
        (
            "Resources: {F: {}}",
            "The resource F of {path} has no Type: give it one, such as AWS::Lambda::Function.",
        ),
        (
            "Resources: {F: {Type: T, Properties: [1]}}",
            "The Properties of F in {path} are no mapping: check the indentation there.",
        ),
    ],
)
def test_documents_that_are_no_templates(write, text, said):
    path = write(text)
    assert refusal(read_document, path) == said.format(path=path)


# --- parameters -------------------------------------------------------------------------------------------------------


def parameter(overrides=None, **declared):
    return parameter_values({"Parameters": {"P": declared}}, overrides or {})["P"]


def test_parameters_have_defaults_overrides_and_lists():
    assert parameter(Type="String", Default="a") == "a"
    assert parameter({"P": "b"}, Type="String", Default="a") == "b"
    assert parameter(Type="Number", Default=3) == "3"
    assert parameter(Type="String", Default=True) == "true"
    assert parameter(Type="CommaDelimitedList", Default="a, b") == ["a", "b"]
    assert parameter(Type="List<Number>", Default="1,2") == ["1", "2"]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "The parameter P has no value: give one with --parameter-overrides P=..."),
        ({"Default": "c", "AllowedValues": ["a", "b"]}, "The parameter P is 'c', but must be one of a, b."),
        ({"Default": "c", "AllowedPattern": "[ab]"}, "The parameter P is 'c', but must match [ab]."),
        (
            {"Default": "c", "AllowedPattern": "[ab]", "ConstraintDescription": "only a and b are good"},
            "The parameter P is 'c', but only a and b are good.",
        ),
        ({"Default": "x", "Type": "Number"}, "The parameter P is 'x', but must be a number."),
        ({"Default": "9", "Type": "Number", "MaxValue": 8}, "The parameter P is 9, but must be between -inf and 8."),
        ({"Default": "abc", "MaxLength": 2}, "The parameter P is 'abc', but must have 0 to 2 characters."),
    ],
)
def test_parameters_that_do_not_hold(declared, said):
    assert refusal(parameter, **declared) == said


def test_an_override_of_a_parameter_that_is_not_there():
    said = refusal(parameter_values, {"Parameters": {"A": {}, "B": {}}}, {"C": "1"})
    assert said == "The template has no parameter C: it has A, B."


# --- intrinsic functions ----------------------------------------------------------------------------------------------


def resolver(**document):
    values = {"P": "p", "List": ["a", "b"], "AWS::Region": "us-east-1"}
    attributes = {"R": {"": "r-name", "Arn": "arn:r", "Nested.Part": "n"}, "Later": {"": Unknown("known later")}}
    return Resolver(document, values, attributes)


CONDITIONS = {
    "Yes": {"Fn::Equals": [{"Ref": "P"}, "p"]},
    "No": {"Fn::Not": [{"Condition": "Yes"}]},
    "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
    "One": {"Fn::Or": [{"Condition": "Yes"}, {"Condition": "No"}]},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "P"}, "p"),
        ({"Ref": "R"}, "r-name"),
        ({"Fn::GetAtt": ["R", "Arn"]}, "arn:r"),
        ({"Fn::GetAtt": "R.Nested.Part"}, "n"),
        ({"Fn::Sub": "${P}/${R}/${R.Arn}/${AWS::Region}/${!P}"}, "p/r-name/arn:r/us-east-1/${P}"),
        ({"Fn::Sub": ["${X}-${P}", {"X": {"Ref": "R"}}]}, "r-name-p"),
        ({"Fn::Join": ["-", ["a", {"Ref": "P"}, 1, True]]}, "a-p-1-true"),
        ({"Fn::Join": [",", {"Ref": "List"}]}, "a,b"),
        ({"Fn::Split": [",", "a,b"]}, ["a", "b"]),
        ({"Fn::Select": ["1", {"Fn::Split": [",", "a,b"]}]}, "b"),
        ({"Fn::FindInMap": ["M", {"Ref": "P"}, "k"]}, "v"),
        ({"Fn::FindInMap": ["M", "none", "k", {"DefaultValue": "d"}]}, "d"),
        ({"Fn::Base64": "ab"}, "YWI="),
        ({"Fn::ToJsonString": {"a": {"Ref": "P"}}}, '{"a":"p"}'),
        ({"Fn::Length": {"Ref": "List"}}, 2),
        ({"Fn::If": ["Yes", "a", "b"]}, "a"),
        ({"Fn::If": ["No", "a", "b"]}, "b"),
        ({"Fn::If": ["Both", "a", "b"]}, "b"),
        ({"Fn::If": ["One", "a", "b"]}, "a"),
        ({"k": {"Fn::If": ["No", "a", {"Ref": "AWS::NoValue"}]}, "l": [{"Ref": "AWS::NoValue"}, 1]}, {"l": [1]}),
        ({"Fn::Sub": "a ${Later}"}, Unknown("known later")),
        ({"Fn::Join": ["", ["a", {"Ref": "Later"}]]}, Unknown("known later")),
        ({"Condition": {"StringEquals": {"a": "b"}}}, {"Condition": {"StringEquals": {"a": "b"}}}),
    ],
)
def test_intrinsic_functions(value, expected):
    found = resolver(Mappings={"M": {"p": {"k": "v"}}}, Conditions=CONDITIONS).resolve(value, "F.X")
    assert found == expected


def test_no_value_at_the_top():
    assert resolver().resolve({"Ref": "AWS::NoValue"}, "F") is NO_VALUE


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"Ref": "Q"}, "F.X refers to Q, which is no parameter and no resource of the template: add it."),
        ({"Fn::Sub": "${Q}"}, "F.X refers to Q, which is no parameter and no resource of the template: add it."),
        ({"Fn::GetAtt": ["Q", "Arn"]}, "F.X asks for Q.Arn, but the template has no resource Q: add it."),
        ({"Fn::GetAtt": ["R", "Id"]}, "F.X asks for R.Id, but the attributes of R are: Arn, Nested.Part."),
        ({"Fn::FindInMap": ["M", "a", "b"]}, "F.X looks up M.a.b, which Mappings do not have: add it."),
        ({"Fn::Select": [5, ["a"]]}, "F.X selects item 5 of ['a'], which is not there."),
        ({"Fn::If": ["Q", 1, 2]}, "F.X names the condition Q, which the template does not have: add it."),
        ({"Fn::ImportValue": "x"}, "F.X uses Fn::ImportValue, which is not supported here: write the value out."),
        ({"Fn::Join": "x"}, "F.X uses Fn::Join in a form that it does not have: see CloudFormation's reference."),
        ({"Fn::Sub": 3}, "F.X has an Fn::Sub without a text: give it one, or a text and a mapping."),
    ],
)
def test_references_that_lead_nowhere(value, said):
    assert refusal(resolver().resolve, value, "F.X") == said


def test_conditions_in_a_circle():
    circle = {"A": {"Fn::Not": [{"Condition": "B"}]}, "B": {"Fn::Not": [{"Condition": "A"}]}}
    said = refusal(resolver(Conditions=circle).holds, "A", "F")
    assert said == "The conditions A -> B -> A depend on each other in a circle: break it."


def test_what_a_value_refers_to():
    value = {
        "a": {"Ref": "A"},
        "b": [{"Fn::GetAtt": "B.Arn"}],
        "c": {"Fn::Sub": ["${C.Arn}${!D}${E}", {"E": {"Ref": "F"}}]},
    }
    assert sorted(references(value)) == ["A", "B", "C", "F"]


# --- whole templates --------------------------------------------------------------------------------------------------


def test_sam_becomes_resources_in_the_order_of_their_references(write, tmp_path):
    template = loaded(write(HEAD + FUNCTION))
    order = [one.kind.rpartition("::")[2] for one in template.resources]
    assert order.index("Role") < order.index("Function") < order.index("Version") < order.index("Alias")
    function = next(one for one in template.resources if one.kind == "AWS::Lambda::Function")
    digest = hashlib.sha256(package_of(tmp_path / "src")).hexdigest()
    assert function.properties["Code"]["S3Key"] == digest
    assert template.codes[digest].package[:2] == b"PK"


def version_id(template):
    return next(one.logical_id for one in template.resources if one.kind == "AWS::Lambda::Version")


def test_new_code_is_a_new_version_and_the_same_code_is_not(write, tmp_path):
    path = write(HEAD + FUNCTION)
    first = version_id(loaded(path))
    (tmp_path / "src" / "app.py").touch()
    (tmp_path / "src" / "__pycache__").mkdir()
    (tmp_path / "src" / "__pycache__" / "app.pyc").write_bytes(b"compiled")
    assert version_id(loaded(path)) == first
    (tmp_path / "src" / "app.py").write_text("handler = 1\n")
    assert version_id(loaded(path)) != first


CDK = """
{
  "Parameters": {"BootstrapVersion": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/cdk/version"}},
  "Resources": {
    "Fn9270CBC0": {
      "Type": "AWS::Lambda::Function",
      "Properties": {
        "Code": {"S3Bucket": {"Fn::Sub": "cdk-assets-${AWS::AccountId}-${AWS::Region}"}, "S3Key": "0b1c.zip"},
        "Handler": "app.handler", "Role": {"Fn::GetAtt": ["Role1ABCC5F0", "Arn"]}, "Runtime": "python3.13"
      }
    },
    "Role1ABCC5F0": {"Type": "AWS::IAM::Role"},
    "CDKMetadata": {"Type": "AWS::CDK::Metadata", "Condition": "CDKMetadataAvailable"}
  },
  "Conditions": {"CDKMetadataAvailable": {"Fn::Or": [{"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]}]}},
  "Rules": {"CheckBootstrapVersion": {"Assertions": [{"Assert": {"Fn::Not": [{"Ref": "BootstrapVersion"}]}}]}}
}
"""


def test_what_the_cdk_synthesizes(write, tmp_path):
    path = write(CDK).rename(tmp_path / "S.template.json")
    source = {"path": "src", "packaging": "zip"}
    files = {"0b1c": {"source": source, "destinations": {"here": {"objectKey": "0b1c.zip"}}}}
    (tmp_path / "S.assets.json").write_text(json.dumps({"version": "55.0.0", "files": files}))
    template = loaded(path)
    function = next(one for one in template.resources if one.kind == "AWS::Lambda::Function")
    assert template.codes[function.properties["Code"]["S3Key"]].path == tmp_path / "src"


def test_a_parameter_of_systems_manager_matters_only_where_it_is_used(write):
    path = write(CDK.replace('"python3.13"', '{"Ref": "BootstrapVersion"}'))
    template = loaded(path)
    function = next(one for one in template.resources if one.kind == "AWS::Lambda::Function")
    said = refusal(template.resolver({}).resolve, function.properties["Runtime"], "F.Runtime")
    assert said == (
        "F.Runtime uses the parameter BootstrapVersion, whose value is in AWS Systems Manager, which is not here: "
        "give it with --parameter-overrides BootstrapVersion=..."
    )
    assert loaded(path, BootstrapVersion="python3.12").values["BootstrapVersion"] == "python3.12"


def test_conditions_of_resources_and_code_chosen_by_a_parameter(write):
    text = """
Parameters: {Stage: {Type: String, Default: dev}, Where: {Type: String, Default: src}}
Conditions: {IsProd: !Equals [!Ref Stage, prod]}
Resources:
  F: {Type: AWS::Lambda::Function, Condition: IsProd, Properties: {Code: !Ref Where, Handler: app.handler}}
  T: {Type: AWS::DynamoDB::Table}
"""
    path = write(text)
    assert [one.logical_id for one in loaded(path).resources] == ["T"]
    assert sorted(one.logical_id for one in loaded(path, Stage="prod").resources) == ["F", "T"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Resources:\n  A: {Type: T, DependsOn: B}\n  B: {Type: T, Properties: {X: !Ref C}}\n"
            "  C: {Type: T, Properties: {X: !Sub '${A.Arn}'}}\n",
            "The resources A -> B -> C -> A refer to each other in a circle: take one reference out.",
        ),
        (
            "Resources: {F: {Type: AWS::Serverless::Function}}",
            "F in {path} is an AWS::Serverless::Function, but the template lacks SAM's transform: "
            "add the line `Transform: AWS::Serverless-2016-10-31`.",
        ),
        (
            HEAD + "  F: {Type: AWS::Serverless::Functoin}",
            "F is an AWS::Serverless::Functoin, which SAM does not know: is it an AWS::Serverless::Function?",
        ),
        (
            "Transform: MyMacro\nResources: {F: {Type: T}}",
            "The transform MyMacro runs on AWS only: apply it there, and deploy what it makes.",
        ),
        (
            HEAD + "  F: {Type: AWS::Serverless::Function, Properties: {CodeUri: nowhere, Handler: a.b}}",
            "F.CodeUri names {folder}/nowhere, which is not there: build the function first, or correct the path.",
        ),
        (
            HEAD + "  F: {Type: AWS::Serverless::Function, Properties: {CodeUri: src, Handler: a.b, Runtimes: x}}",
            "SAM refuses the template: Resource with id [F] is invalid. property Runtimes not defined for resource "
            "of type AWS::Serverless::Function.",
        ),
    ],
)
def test_templates_that_cannot_be_deployed(write, text, said):
    path = write(text)
    assert refusal(loaded, path) == said.format(path=path, folder=path.parent)


def test_an_empty_code_folder(write, tmp_path):
    (tmp_path / "src" / "app.py").unlink()
    said = refusal(loaded, write(HEAD + FUNCTION))
    assert said == f"The code folder {tmp_path / 'src'} has no files: put the function's code there."


# --- packages and placeholders ----------------------------------------------------------------------------------------


def test_a_package_keeps_what_is_executable_and_nothing_of_the_moment(tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "run"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    first = package_of(tmp_path)
    program.touch()
    assert package_of(tmp_path) == first
    (entry,) = zipfile.ZipFile(io.BytesIO(first)).infolist()
    assert (entry.filename, entry.external_attr >> 16) == ("bin/run", 0o100755)


def test_dependencies_that_are_not_built(tmp_path):
    wanted = tmp_path / "requirements.txt"
    assert not_built(tmp_path) is None
    wanted.write_text("# nothing\n")
    assert not_built(tmp_path) is None
    wanted.write_text("requests\n")
    assert not_built(tmp_path) == (
        f"What {wanted} names is not in the package: run `sam build`, and use .aws-sam/build/template.yaml."
    )
    (tmp_path / "requests-2.dist-info").mkdir()
    assert not_built(tmp_path) is None


def test_an_archive_is_taken_as_it_is_and_a_file_is_packed(tmp_path):
    jar = tmp_path / "function.jar"
    jar.write_bytes(b"any bytes")
    assert package_of(jar) == b"any bytes"
    module = tmp_path / "app.py"
    module.write_text("x = 1\n")
    assert zipfile.ZipFile(io.BytesIO(package_of(module))).namelist() == ["app.py"]


@pytest.mark.parametrize(
    ("kind", "properties", "ref", "arn"),
    [
        ("AWS::IAM::Role", {}, "s-R", "arn:aws:iam::123456789012:role/s-R"),
        ("AWS::DynamoDB::Table", {"TableName": "t"}, "t", "arn:aws:dynamodb:us-east-1:123456789012:table/t"),
        (
            "AWS::SQS::Queue",
            {},
            "https://sqs.us-east-1.amazonaws.com/123456789012/s-R",
            "arn:aws:sqs:us-east-1:123456789012:s-R",
        ),
        ("AWS::SNS::Topic", {}, "arn:aws:sns:us-east-1:123456789012:s-R", "arn:aws:sns:us-east-1:123456789012:s-R"),
        ("AWS::S3::Bucket", {}, "s-r", "arn:aws:s3:::s-r"),
    ],
)
def test_placeholders_look_like_the_real_thing(kind, properties, ref, arn):
    found = placeholder("R", kind, properties, PLACE, "s")
    assert (found[""], found["Arn"], found["Other"]) == (ref, arn, "R.Other")


def test_the_sentences_of_what_is_left_out():
    def told(kind):
        return sentence("R", kind, placeholder("R", kind, {}, PLACE, "s"))

    assert told("AWS::IAM::Role") == (
        "R (AWS::IAM::Role) is left out: functions get arn:aws:iam::123456789012:role/s-R, which nothing checks."
    )
    assert told("AWS::DynamoDB::Table") == (
        "R (AWS::DynamoDB::Table) is left out: it is not Thaw's, and references to it become s-R."
    )
    assert told("AWS::ApiGateway::RestApi") == (
        "R (AWS::ApiGateway::RestApi) is left out: `thaw local start-api` serves it, and function URLs reach functions."
    )
    assert told("AWS::Lambda::EventSourceMapping") == (
        "R (AWS::Lambda::EventSourceMapping) is left out: this server polls no event sources, "
        "so call the function yourself."
    )
