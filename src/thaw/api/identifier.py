"""Function names as clients write them: a name, a partial ARN or a whole one, each with or without a qualifier."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from thaw.api.ports import ApiSettings
from thaw.catalog.configuration import LATEST
from thaw.errors import ServiceError

_FORM = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:(?=[a-z]+-))?(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Identifier:
    """A function's plain name and the qualifier, if one was given."""

    name: str
    qualifier: str | None


class Identifiers:
    """Reads identifiers for one region and account."""

    def __init__(self, settings: ApiSettings) -> None:
        self._region = settings.region
        self._account = settings.account_id
        self._parsed = lru_cache(maxsize=4096)(self._parse)

    def read(self, text: str, qualifier: str | None = None) -> Identifier:
        """Name and qualifier out of a FunctionName and a Qualifier that already fit the model's patterns.

        Raises InvalidParameterValueException where two qualifiers contradict each other, ResourceNotFoundException
        for another region or account.
        """
        found = self._parsed(text)
        if qualifier is None or qualifier == found.qualifier:
            return found
        if found.qualifier is not None:
            raise ServiceError(
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified qualifier.",
            )
        return Identifier(found.name, qualifier)

    def read_unqualified(self, text: str) -> str:
        """The plain name, for operations that change $LATEST or aliases only."""
        found = self._parsed(text)
        if found.qualifier not in (None, LATEST):
            raise ServiceError(
                "InvalidParameterValueException",
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this "
                "operation. Please specify either a function name or an unqualified function ARN.",
            )
        return found.name

    def _parse(self, text: str) -> Identifier:
        match = _FORM.fullmatch(text)
        if match is None:
            raise ServiceError("InvalidParameterValueException", f"Invalid function name or ARN: {text}")
        if match["region"] not in (None, self._region):
            raise ServiceError(
                "ResourceNotFoundException",
                f"Functions from '{match['region']}' are not reachable in this region ('{self._region}')",
            )
        if match["account"] not in (None, self._account):
            raise ServiceError("ResourceNotFoundException", f"Function not found: {text}")
        return Identifier(match["name"], match["qualifier"])
