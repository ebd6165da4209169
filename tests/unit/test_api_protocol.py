"""The compiled protocol: routes, decoding, and AWS's words for what does not fit."""

import json
import re
import unicodedata

import pytest

from thaw.api.protocol.message_types import attribute_name
from thaw.api.protocol.model import lambda_model
from thaw.api.protocol.operation import RequestParts
from thaw.api.protocol.pattern import python_pattern
from thaw.api.protocol.service import LambdaProtocol
from thaw.errors import ServiceError

PROTOCOL = LambdaProtocol.compiled()
ROLE = "arn:aws:iam::123456789012:role/x"


def decode(operation, document=None, *, path=None, query=None, headers=None, body=b""):
    body = body if document is None else json.dumps(document).encode()
    parts = RequestParts(path=path or {}, query=query or {}, headers=headers or {}, body=body)
    return PROTOCOL.operations[operation].decode(parts)


def refusal(operation, document=None, **where):
    with pytest.raises(ServiceError) as caught:
        decode(operation, document, **where)
    return caught.value.code, caught.value.message


def creation(**members):
    return {"FunctionName": "f", "Role": ROLE, "Code": {"ZipFile": "YWJj"}, **members}


def test_every_operation_of_the_model_has_a_route_to_itself():
    model = lambda_model()
    assert len(model.operations) >= 91
    for name, operation in model.operations.items():
        path, _, query = operation["http"]["requestUri"].partition("?")
        values = {variable: f"value-of-{variable}" for variable in re.findall(r"\{(\w+)\+?\}", path)}
        for variable, value in values.items():
            path = path.replace("{" + variable + "}", value)
        demanded = {pair.split("=")[0]: [pair.split("=")[1]] for pair in query.split("&") if pair}
        assert PROTOCOL.routes.find(operation["http"]["method"], path, demanded) == (name, values)


def test_routes_keep_encoded_slashes_inside_a_segment_and_ignore_one_at_the_end():
    assert PROTOCOL.routes.find("GET", "/2017-03-31/tags/arn%3Aaws%2Fx", {}) == ("ListTags", {"Resource": "arn:aws/x"})
    assert PROTOCOL.routes.find("GET", "/2015-03-31/functions/", {}) == ("ListFunctions", {})


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/2015-03-31"), ("PATCH", "/2015-03-31/functions"), ("GET", "/2015-03-31/functions/f/no")],
)
def test_unknown_paths_and_methods_have_no_route(method, path):
    assert PROTOCOL.routes.find(method, path, {}) is None


def test_members_come_from_their_locations():
    request = decode(
        "Invoke",
        path={"FunctionName": "f"},
        query={"Qualifier": ["live"]},
        headers={"x-amz-invocation-type": "DryRun", "x-amz-log-type": "Tail", "x-amz-client-context": "e30="},
        body=b"any bytes at all",
    )
    assert (request.function_name, request.qualifier, request.invocation_type) == ("f", "live", "DryRun")
    assert (request.log_type, request.client_context, request.payload) == ("Tail", "e30=", b"any bytes at all")
    assert decode("ListFunctions", query={"MaxItems": ["7"], "Marker": ["m"]}).max_items == 7
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    assert decode("UntagResource", path={"Resource": arn}, query={"tagKeys": ["a", "b"]}).tag_keys == ["a", "b"]


def test_a_body_cannot_set_what_belongs_to_the_url():
    request = decode("PublishVersion", {"FunctionName": "other", "Description": "d"}, path={"FunctionName": "f"})
    assert (request.function_name, request.description) == ("f", "d")


def test_blobs_are_decoded_and_nulls_are_absent():
    request = decode("CreateFunction", creation(Description=None, Layers=None))
    assert request.code.zip_file == b"abc"
    assert request.description is None
    assert request.layers is None


def test_unknown_members_are_ignored():
    assert decode("CreateFunction", creation(NewerThanTheModel={"a": [1]})).function_name == "f"


@pytest.mark.parametrize(
    ("members", "failure"),
    [
        (
            {"SnapStart": {"ApplyOn": "x"}},
            "Value 'x' at 'snapStart.applyOn' failed to satisfy constraint: "
            "Member must satisfy enum value set: [PublishedVersions, None]",
        ),
        (
            {"MemorySize": 127},
            "Value '127' at 'memorySize' failed to satisfy constraint: "
            "Member must have value greater than or equal to 128",
        ),
        (
            {"Handler": "a b"},
            r"Value 'a b' at 'handler' failed to satisfy constraint: "
            r"Member must satisfy regular expression pattern: [^\s]+",
        ),
        (
            {"Handler": "a\n"},
            "Value 'a\n' at 'handler' failed to satisfy constraint: "
            r"Member must satisfy regular expression pattern: [^\s]+",
        ),
        (
            {"Description": "x" * 257},
            f"Value '{'x' * 257}' at 'description' failed to satisfy constraint: "
            "Member must have length less than or equal to 256",
        ),
        (
            {"Role": None},
            "Value null at 'role' failed to satisfy constraint: Member must not be null",
        ),
        (
            {"EphemeralStorage": {}},
            "Value null at 'ephemeralStorage.size' failed to satisfy constraint: Member must not be null",
        ),
        (
            {"Architectures": ["x86_64", "arm64"]},
            "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: "
            "Member must have length less than or equal to 1",
        ),
        (
            {"Architectures": ["i386"]},
            "Value '[i386]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: "
            "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
        (
            {"FileSystemConfigs": [{"Arn": "x"}]},
            "Value null at 'fileSystemConfigs.1.member.localMountPath' failed to satisfy constraint: "
            "Member must not be null",
        ),
    ],
)
def test_a_failed_constraint_is_told_in_awss_words(members, failure):
    code, message = refusal("CreateFunction", creation(**members))
    assert code == "ValidationException"
    assert failure in message
    assert re.match(r"\d+ validation errors? detected: Value ", message)


def test_one_failure_is_told_exactly():
    expected = (
        "1 validation error detected: Value 'x' at 'snapStart.applyOn' failed to satisfy constraint: "
        "Member must satisfy enum value set: [PublishedVersions, None]"
    )
    where = {"path": {"FunctionName": "f"}}
    assert refusal("UpdateFunctionConfiguration", {"SnapStart": {"ApplyOn": "x"}}, **where) == (
        "ValidationException",
        expected,
    )


def test_all_failures_are_told_at_once_in_the_models_order():
    code, message = refusal("CreateFunction", {"Timeout": 0})
    assert code == "ValidationException"
    assert message == (
        "4 validation errors detected: "
        "Value null at 'functionName' failed to satisfy constraint: Member must not be null; "
        "Value null at 'role' failed to satisfy constraint: Member must not be null; "
        "Value null at 'code' failed to satisfy constraint: Member must not be null; "
        "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"
    )


def test_weights_out_of_range_name_the_rule_of_the_map():
    document = {"Name": "a", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": 1.5}}}
    assert refusal("CreateAlias", document, path={"FunctionName": "f"}) == (
        "ValidationException",
        "1 validation error detected: Value '{2=1.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy "
        "constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, "
        "Member must have value greater than or equal to 0.0, Member must not be null]",
    )


def test_sensitive_values_stay_out_of_messages():
    _, message = refusal("CreateFunction", creation(Environment={"Variables": {"1": "secret"}}))
    assert "secret" not in message
    assert message.startswith("1 validation error detected: Value at 'environment.variables' failed")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"FunctionName": 3}, "NUMBER_VALUE cannot be converted to String"),
        ({"Timeout": "3"}, "STRING_VALUE cannot be converted to Integer"),
        ({"Timeout": 3.5}, "NUMBER_VALUE cannot be converted to Integer"),
        ({"Timeout": 2**31}, "NUMBER_VALUE cannot be converted to Integer"),
        ({"Timeout": True}, "TRUE_VALUE cannot be converted to Integer"),
        ({"Publish": "true"}, "STRING_VALUE cannot be converted to Boolean"),
        ({"Role": {}}, "Start of structure or map found where not expected."),
        ({"Role": []}, "Start of list found where not expected."),
        ({"Layers": "x"}, "STRING_VALUE cannot be converted to list"),
        ({"Code": "x"}, "STRING_VALUE cannot be converted to structure"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_serialization_exception(members, message):
    assert refusal("CreateFunction", creation(**members)) == ("SerializationException", message)


@pytest.mark.parametrize("body", [b"{", b"nul", b'{"a":}', b"\xff\xfe", b'{"FunctionName": "\xff"}', b"[" * 100_000])
def test_a_body_that_is_not_json_is_a_serialization_exception(body):
    code, message = refusal("CreateFunction", body=body)
    assert code == "SerializationException"
    assert message.startswith("Could not parse request body into json: ")


def test_bad_base64_is_a_serialization_exception():
    code, _ = refusal("CreateFunction", creation(Code={"ZipFile": "***"}))
    assert code == "SerializationException"


def test_an_array_as_body_is_a_serialization_exception():
    assert refusal("CreateFunction", []) == ("SerializationException", "Start of list found where not expected.")


def test_numbers_in_the_url_are_checked_for_type_and_range():
    assert refusal("ListFunctions", query={"MaxItems": ["x"]})[0] == "SerializationException"
    assert refusal("ListFunctions", query={"MaxItems": ["0"]}) == (
        "ValidationException",
        "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1",
    )


def test_java_patterns_want_the_whole_value_in_ascii():
    assert re.search(python_pattern(r"\d{2}"), "12")
    for value in ("123", "12\n", "x12", "١٢"):
        assert not re.search(python_pattern(r"\d{2}"), value)


def test_unicode_classes_are_translated_exactly():
    compiled = re.compile(python_pattern(lambda_model().shapes["TagKey"]["pattern"]))
    for point in range(0x110000):
        character = chr(point)
        admitted = unicodedata.category(character)[0] in "LZN" or character in "_.:/=+-@"
        assert bool(compiled.search(character)) == admitted, hex(point)


def test_a_class_with_other_categories_is_translated_too():
    compiled = re.compile(python_pattern(r"[\p{Lu}]+"))
    assert compiled.search("ÄB")
    assert not compiled.search("Äb")


def test_statuses_and_message_keys_are_the_models():
    for code, status, key in (
        ("ResourceNotFoundException", 404, "Message"),
        ("ResourceConflictException", 409, "message"),
        ("SnapStartTimeoutException", 408, "Message"),
        ("PreconditionFailedException", 412, "message"),
        ("RequestTooLargeException", 413, "message"),
    ):
        error = ServiceError(code, "text")
        assert PROTOCOL.error_status(error) == status
        assert json.loads(PROTOCOL.error_body(error)) == {"Type": "User", key: "text"}
    throttled = ServiceError("TooManyRequestsException", "text", reason="CallerRateLimitExceeded")
    assert json.loads(PROTOCOL.error_body(throttled))["Reason"] == "CallerRateLimitExceeded"
    unlisted = ServiceError("ValidationException", "text")
    assert (PROTOCOL.error_status(unlisted), json.loads(PROTOCOL.error_body(unlisted))) == (400, {"message": "text"})


def test_attribute_names_are_unique_in_every_input():
    model = lambda_model()
    for operation in model.operations.values():
        names = [attribute_name(member) for member in model.shapes[operation["input"]["shape"]]["members"]]
        assert len(set(names)) == len(names)
