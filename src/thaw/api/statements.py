"""Statements of resource policies, for functions and for layers; written as AWS writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from thaw.api import members
from thaw.catalog import refusals

Statement = Mapping[str, Any]
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_IDENTITY = re.compile(r"arn:aws[a-zA-Z-]*:(?:iam|sts):", re.ASCII)


def principal(text: str) -> Any:
    """The Principal of a statement: "*", an account, an identity's ARN or a service.

    Raises InvalidParameterValueException for anything else.
    """
    if text == "*":
        return "*"
    if text.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return {"Service": text}
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:aws:iam::{text}:root"}
    if _IDENTITY.match(text):
        return {"AWS": text}
    raise members.refuse("The provided principal was invalid. Please check the principal and try again.")


def added(statements: tuple[Statement, ...], statement: Statement) -> tuple[Statement, ...]:
    """The statements with one more. Raises ResourceConflictException where its Sid is taken."""
    if any(one["Sid"] == statement["Sid"] for one in statements):
        raise refusals.statement_exists(statement["Sid"])
    return (*statements, statement)


def removed(statements: tuple[Statement, ...], statement_id: str) -> tuple[Statement, ...]:
    """The statements without one. Raises ResourceNotFoundException where it is not among them."""
    rest = tuple(one for one in statements if one["Sid"] != statement_id)
    if len(rest) == len(statements):
        raise refusals.statement_not_found(statement_id)
    return rest


def text(statement: Statement) -> str:
    """A statement as a JSON text."""
    return msgspec.json.encode(statement).decode()


def policy_text(statements: Iterable[Statement]) -> str:
    """A whole policy document as a JSON text."""
    document = {"Version": "2012-10-17", "Id": "default", "Statement": list(statements)}
    return msgspec.json.encode(document).decode()
