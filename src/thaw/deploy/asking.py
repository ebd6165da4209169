"""Questions to the server: what is there (None where it is not), and waiting until a change has settled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from thaw.deploy.placeholders import Place
from thaw.errors import DeployFailed

# A publish may run Init for 15 minutes.
SETTLE_LIMIT_S = 960.0
_POLL_S = 0.02
_ARN = re.compile(r"arn:aws[a-z-]*:lambda:([a-z0-9-]+):(\d{12}):function:")


def found(call: Callable[..., Any], **arguments: Any) -> Any:
    """The answer without its metadata, or None where the server says that there is no such thing."""
    from botocore.exceptions import ClientError

    try:
        answer = call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] in (
            "ResourceNotFoundException",
            "ProvisionedConcurrencyConfigNotFoundException",
        ):
            return None
        raise
    answer.pop("ResponseMetadata", None)
    return answer


def place_of(client: Any) -> Place:
    """Region and account of the server, from the ARN in its answer to a question about a function that nobody has.

    Lambda has no operation that tells. Raises DeployFailed where no Lambda API answers.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    url = client.meta.endpoint_url
    try:
        said = str(client.get_function(FunctionName="thaw-deploy-asks-where-this-is"))
    except ClientError as error:
        said = str(error)
    except BotoCoreError as error:
        raise DeployFailed(
            f"No server answers at {url} ({error}): start one with `thaw serve`, or name its --endpoint-url."
        ) from None
    match = _ARN.search(said)
    if match is None:
        raise DeployFailed(
            f"The server at {url} does not answer as Lambda does ({said}): check --endpoint-url and the keys."
        )
    return Place(match[1], match[2])


def reason_of(error: BaseException) -> str:
    """Why something failed, in the server's words, without boto3's around them."""
    from botocore.exceptions import ClientError

    if not isinstance(error, ClientError):
        return str(error)
    said = error.response["Error"]
    return f"{said.get('Code')}: {said.get('Message')}"


def settled(client: Any, name: str, qualifier: str = "$LATEST") -> dict[str, Any]:
    """Waits until the version is ready to be called. Raises DeployFailed with the server's reason where it is not."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while time.monotonic() < deadline:
        now: dict[str, Any] = client.get_function_configuration(FunctionName=name, Qualifier=qualifier)
        if now["State"] == "Failed":
            raise DeployFailed(f"{name}:{qualifier} failed: {now.get('StateReason') or now.get('StateReasonCode')}")
        if now.get("LastUpdateStatus") == "Failed":
            raise DeployFailed(f"the update of {name} failed: {now.get('LastUpdateStatusReason')}")
        if now["State"] in ("Active", "Inactive") and now.get("LastUpdateStatus", "Successful") == "Successful":
            return now
        time.sleep(_POLL_S)
    raise DeployFailed(f"{name}:{qualifier} was not ready within {SETTLE_LIMIT_S:.0f} s.")


def pages(client: Any, operation: str, member: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """All items of a listing, page by page."""
    marker: dict[str, str] = {}
    while True:
        answer = getattr(client, operation)(**arguments, **marker)
        yield from answer[member]
        if not answer.get("NextMarker"):
            return
        marker = {"Marker": answer["NextMarker"]}


def download(url: str) -> bytes:
    """A deployment package from the link that GetFunction gives."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=300) as answer:
        content: bytes = answer.read()
    return content


def split_function(text: str) -> tuple[str, str | None]:
    """Name and qualifier of a function's name or ARN ("arn:aws:lambda:r:1:function:f:live", "f:live", "f")."""
    if text.startswith("arn:"):
        text = text.split(":function:", 1)[-1]
    name, _, qualifier = text.partition(":")
    return name, qualifier or None
