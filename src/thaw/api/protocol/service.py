"""The whole protocol: requests to operations, errors to responses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec

from thaw.api.protocol.constraints import Constraints
from thaw.api.protocol.message_types import MessageTypes
from thaw.api.protocol.model import ServiceModel, lambda_model
from thaw.api.protocol.operation import Operation
from thaw.api.protocol.routes import Routes
from thaw.errors import ServiceError

# Errors that every AWS front end can answer and that no service model lists.
_FRONT_END_STATUS = {
    "AccessDeniedException": 403,
    "IncompleteSignatureException": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "NotImplementedException": 501,
    "RequestEntityTooLargeException": 413,
    "SerializationException": 400,
    "UnknownOperationException": 404,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
}


class LambdaProtocol:
    """Routes and operations of the model, compiled; `operations` by name."""

    def __init__(self, model: ServiceModel) -> None:
        types = MessageTypes(model)
        constraints = Constraints(model)
        self._model = model
        self.routes = Routes(model)
        self.operations: Mapping[str, Operation] = {
            name: Operation(name, model, types, constraints) for name in model.operations
        }

    @classmethod
    def compiled(cls) -> LambdaProtocol:
        """The protocol of the installed botocore's `lambda` model."""
        return cls(lambda_model())

    def error_status(self, error: ServiceError) -> int:
        """The HTTP status of an error: the model's, else the front end's, else 500."""
        return self._model.error_status(error.code) or _FRONT_END_STATUS.get(error.code, 500)

    def error_body(self, error: ServiceError) -> bytes:
        """The JSON body of an error; the message's key is spelled as the model spells it ("Message" or "message")."""
        members = self._error_members.get(error.code)
        if members is None:
            return msgspec.json.encode({"message": error.message})
        body: dict[str, Any] = {"Type": error.type} if "Type" in members else {}
        if error.reason is not None and "Reason" in members:
            body["Reason"] = error.reason
        body["Message" if "Message" in members else "message"] = error.message
        return msgspec.json.encode(body)

    @cached_property
    def _error_members(self) -> dict[str, frozenset[str]]:
        shapes = self._model.shapes.items()
        return {name: frozenset(shape["members"]) for name, shape in shapes if shape.get("exception")}
