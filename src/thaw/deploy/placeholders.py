"""Resources that are not Thaw's: what others refer to of them, and the sentence that says they were left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaw.deploy.intrinsics import Attributes


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stack lives: region and account of its ARNs."""

    region: str
    account_id: str

    def arn(self, service: str, resource: str, *, regional: bool = True) -> str:
        """An ARN; services such as IAM and S3 have no region in it."""
        return f"arn:aws:{service}:{self.region if regional else ''}:{self.account_id}:{resource}"


# The property that names a resource, the service in its ARN, and what comes before the name there.
_NAMED = {
    "AWS::DynamoDB::Table": ("TableName", "dynamodb", "table/"),
    "AWS::SQS::Queue": ("QueueName", "sqs", ""),
    "AWS::SNS::Topic": ("TopicName", "sns", ""),
    "AWS::Events::Rule": ("Name", "events", "rule/"),
    "AWS::Events::EventBus": ("Name", "events", "event-bus/"),
    "AWS::Scheduler::Schedule": ("Name", "scheduler", "schedule/default/"),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", "states", "stateMachine:"),
    "AWS::Kinesis::Stream": ("Name", "kinesis", "stream/"),
    "AWS::SecretsManager::Secret": ("Name", "secretsmanager", "secret:"),
    "AWS::Logs::LogGroup": ("LogGroupName", "logs", "log-group:"),
    "AWS::KMS::Key": ("", "kms", "key/"),
    "AWS::Cognito::UserPool": ("UserPoolName", "cognito-idp", "userpool/"),
}
_REF_IS_ARN = frozenset(
    (
        "AWS::SNS::Topic",
        "AWS::StepFunctions::StateMachine",
        "AWS::SecretsManager::Secret",
        "AWS::Lambda::EventSourceMapping",
    )
)
_APIS = frozenset(("AWS::ApiGateway::RestApi", "AWS::ApiGatewayV2::Api"))
_OF_APIS = ("AWS::ApiGateway::", "AWS::ApiGatewayV2::")


class PlaceholderAttributes(Mapping[str, Any]):
    """Attributes of a resource that does not exist: the usual ones in their usual form, others by their names."""

    def __init__(self, known: Mapping[str, Any], logical_id: str) -> None:
        self._known = known
        self._logical_id = logical_id

    def __getitem__(self, name: str) -> Any:
        return self._known.get(name, f"{self._logical_id}.{name}")

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Any:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def placeholder(logical_id: str, kind: str, properties: Mapping[str, Any], place: Place, stack: str) -> Attributes:
    """What references to the resource become."""
    if kind == "AWS::IAM::Role":
        name = _name(properties, "RoleName", logical_id, stack)
        path = str(properties.get("Path", "/")).strip("/")
        arn = place.arn("iam", "role/" + (f"{path}/" if path else "") + name, regional=False)
        return PlaceholderAttributes({"": name, "Arn": arn, "RoleId": "AROA" + logical_id.upper()}, logical_id)
    if kind == "AWS::S3::Bucket":
        name = _name(properties, "BucketName", logical_id, stack).lower()
        known = {"": name, "Arn": f"arn:aws:s3:::{name}", "DomainName": f"{name}.s3.amazonaws.com"}
        return PlaceholderAttributes(known, logical_id)
    if kind in _APIS:
        endpoint = f"https://{logical_id.lower()}.execute-api.{place.region}.amazonaws.com"
        return PlaceholderAttributes({"": logical_id.lower(), "ApiEndpoint": endpoint}, logical_id)
    return PlaceholderAttributes(_of_service(logical_id, kind, properties, place, stack), logical_id)


def _of_service(logical_id: str, kind: str, properties: Mapping[str, Any], place: Place, stack: str) -> dict[str, Any]:
    naming, service, prefix = _NAMED.get(kind, ("", kind.split("::")[1].lower() if "::" in kind else "custom", ""))
    name = _name(properties, naming, logical_id, stack)
    arn = place.arn(service, prefix + name)
    if kind == "AWS::SQS::Queue":
        url = f"https://sqs.{place.region}.amazonaws.com/{place.account_id}/{name}"
        return {"": url, "Arn": arn, "QueueName": name, "QueueUrl": url}
    if kind in ("AWS::ApiGateway::Stage", "AWS::ApiGatewayV2::Stage"):
        return {"": properties.get("StageName", name)}
    return {"": arn if kind in _REF_IS_ARN else name, "Arn": arn, "TopicArn": arn, "Name": name, "TopicName": name}


def _name(properties: Mapping[str, Any], naming: str, logical_id: str, stack: str) -> str:
    given = properties.get(naming)
    return given if isinstance(given, str) else f"{stack}-{logical_id}"


def sentence(logical_id: str, kind: str, attributes: Attributes) -> str:
    """Why the resource is left out, and what that means here."""
    if kind == "AWS::IAM::Role":
        return f"{logical_id} ({kind}) is left out: functions get {attributes['Arn']}, which nothing checks."
    if kind in _APIS:
        return (
            f"{logical_id} ({kind}) is left out: `thaw local start-api` serves it, and function URLs reach functions."
        )
    if kind == "AWS::CDK::Metadata":
        return f"{logical_id} ({kind}) is left out: it only counts who uses the CDK."
    if kind.startswith(_OF_APIS):
        return f"{logical_id} ({kind}) is left out with its API."
    if kind == "AWS::Lambda::EventSourceMapping":
        return f"{logical_id} ({kind}) is left out: this server polls no event sources, so call the function yourself."
    if kind in ("AWS::Events::Rule", "AWS::Scheduler::Schedule"):
        return f"{logical_id} ({kind}) is left out: nothing here calls functions by the clock or on events."
    return f"{logical_id} ({kind}) is left out: it is not Thaw's, and references to it become {attributes['']}."
