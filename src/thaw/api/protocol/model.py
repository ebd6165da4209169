"""The `lambda` service model of botocore, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import botocore.loaders

Shape = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServiceModel:
    """The parts of a service-2 document that a server needs: `operations` and `shapes`, each by name."""

    operations: Mapping[str, Shape]
    shapes: Mapping[str, Shape]

    def is_a(self, name: str, kind: str) -> bool:
        """Whether the shape `name` is of the type `kind` ("structure", "string", …)."""
        return bool(self.shapes[name]["type"] == kind)

    def error_status(self, code: str) -> int | None:
        """The HTTP status of an error shape, or None where the model does not name the error."""
        shape = self.shapes.get(code)
        if shape is None or not shape.get("exception"):
            return None
        return int(shape.get("error", {}).get("httpStatusCode", 500 if shape.get("fault") else 400))


# Enums that the protocol lets through because the service itself checks them, with another error.
OPEN_ENUMS = frozenset({"Runtime"})


@cache
def lambda_model() -> ServiceModel:
    """Loads the newest `lambda` model that the installed botocore carries."""
    document = botocore.loaders.create_loader().load_service_model("lambda", "service-2")
    return ServiceModel(operations=document["operations"], shapes=document["shapes"])
