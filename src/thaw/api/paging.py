"""Markers of the List operations: opaque to clients, and stable while things are added and deleted between pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from thaw.errors import ServiceError

PAGE = 50
Item = TypeVar("Item")


def page_size(asked: int | None) -> int:
    """Items of one page: what was asked for, at most 50 as on Lambda."""
    return min(asked or PAGE, PAGE)


def write_marker(*position: str | int) -> str:
    """A NextMarker for the page after `position`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode()


def read_marker(marker: str | None, kind: Any, start: Any) -> Any:
    """The position in a Marker as a tuple of the type `kind`, or `start` where there is none."""
    if not marker:
        return start
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(marker.encode()), type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise ServiceError("InvalidParameterValueException", "Invalid marker.") from error


def one_page(
    found: Sequence[Item], size: int, position: Callable[[Item], tuple[str | int, ...]]
) -> tuple[Sequence[Item], str | None]:
    """Splits `size + 1` items that were asked for into a page and the marker of the next one, if there is more."""
    if len(found) <= size:
        return found, None
    return found[:size], write_marker(*position(found[size - 1]))
