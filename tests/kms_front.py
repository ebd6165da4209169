"""A KMS endpoint that refuses keys as KMS does: moto keeps keys and their states, but uses them in any state.

In front of its KMS: requests are passed on, but those that use a key are answered with KMS's own errors where the
key is disabled or about to be deleted ("Key states of AWS KMS keys", KMS developer guide) or where `forbidden` has it.
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

USING = {"GenerateDataKey", "Decrypt", "Encrypt"}
REFUSED = {
    "Disabled": ("DisabledException", "{arn} is disabled."),
    "PendingDeletion": ("KMSInvalidStateException", "{arn} is pending deletion."),
}


class KmsFront:
    """`url` is the endpoint; ARNs in `forbidden` may not be used by anybody; `asked` are the operations, in order."""

    def __init__(self, moto: str) -> None:
        self.forbidden: set[str] = set()
        self.asked: list[str] = []
        self.kms: Any = boto3.client("kms", endpoint_url=moto)
        self._moto = moto
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def create_key(self) -> str:
        """The ARN of a new key."""
        return str(self.kms.create_key()["KeyMetadata"]["Arn"])

    def disable(self, arn: str) -> None:
        """As DisableKey, of which moto takes the key's id only."""
        self.kms.disable_key(KeyId=arn.rpartition("/")[2])

    def enable(self, arn: str) -> None:
        """As EnableKey."""
        self.kms.enable_key(KeyId=arn.rpartition("/")[2])

    def schedule_deletion(self, arn: str) -> None:
        """As ScheduleKeyDeletion."""
        self.kms.schedule_key_deletion(KeyId=arn.rpartition("/")[2], PendingWindowInDays=7)

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to one request."""
        operation = headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.asked.append(operation)
        request = json.loads(body)
        if operation in USING and (refusal := self._refusal(request)) is not None:
            code, message = refusal
            return 400, json.dumps({"__type": code, "message": message}).encode()
        passed = urllib.request.Request(self._moto, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(passed) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def _refusal(self, request: dict[str, Any]) -> tuple[str, str] | None:
        key = request.get("KeyId") or base64.b64decode(request["CiphertextBlob"])[:36].decode()
        if key in self.forbidden:
            return "AccessDeniedException", f"User is not authorized to perform this operation on {key}"
        try:
            state = self.kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        except self.kms.exceptions.NotFoundException:
            return None  # moto says so itself
        code, message = REFUSED.get(state, ("", ""))
        return (code, message.format(arn=key)) if code else None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                status, answer = front.answer(headers, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                return

        return Handler


@contextmanager
def kms_front(moto: str) -> Iterator[KmsFront]:
    """A running endpoint."""
    front = KmsFront(moto)
    try:
        yield front
    finally:
        front.close()
