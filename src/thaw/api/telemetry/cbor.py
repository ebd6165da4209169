"""The part of CBOR (RFC 8949) that Smithy's RPC v2 protocol uses, which CloudWatch's clients speak.

Times travel as tag 1 (seconds since the epoch) and are datetime here.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any

_BREAK = object()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEEPEST = 64
_INTEGERS = {24: "B", 25: ">H", 26: ">I", 27: ">Q"}
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


def decode(content: bytes) -> Any:
    """One value. Raises ValueError where the bytes are no CBOR, or more than one value."""
    reader = _Reader(content)
    try:
        value = reader.value(0)
    except (struct.error, UnicodeDecodeError, OverflowError, TypeError) as error:
        raise ValueError(f"the body is no CBOR: {error}") from error
    if reader.place != len(content) or value is _BREAK:
        raise ValueError("the body is no CBOR: it does not end where its value does")
    return value


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError("the body is no CBOR that makes sense: it is nested too deeply")
        first = self.take(1)[0]
        kind, detail = first >> 5, first & 31
        if kind == 7:
            return self.simple(detail)
        if kind == 6:
            return _tagged(self.number(detail), self.value(depth + 1))
        if detail == 31:
            return self.open_ended(kind, depth)
        number = self.number(detail)
        if kind < 2:
            return number if kind == 0 else -1 - number
        if kind < 4:
            return self.take(number) if kind == 2 else self.take(number).decode()
        if kind == 4:
            return [self.value(depth + 1) for _ in range(self.checked(number))]
        return {self.value(depth + 1): self.value(depth + 1) for _ in range(self.checked(number))}

    def open_ended(self, kind: int, depth: int) -> Any:
        parts = []
        while (part := self.value(depth + 1)) is not _BREAK:
            parts.append(part)
        if kind == 4:
            return parts
        if kind == 5:
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if kind in (2, 3):
            return (b"" if kind == 2 else "").join(parts)
        raise ValueError("the body is no CBOR: a number without an end")

    def simple(self, detail: int) -> Any:
        if detail in _FLOATS:
            return struct.unpack(_FLOATS[detail], self.take(struct.calcsize(_FLOATS[detail])))[0]
        plain: dict[int, Any] = {20: False, 21: True, 22: None, 23: None, 31: _BREAK}
        if detail not in plain:
            raise ValueError(f"the body is no CBOR of this protocol: simple value {detail}")
        return plain[detail]

    def number(self, detail: int) -> int:
        if detail < 24:
            return detail
        if detail not in _INTEGERS:
            raise ValueError("the body is no CBOR: a number of an unknown size")
        format = _INTEGERS[detail]
        return int(struct.unpack(format, self.take(struct.calcsize(format)))[0])

    def checked(self, count: int) -> int:
        """Every element takes a byte at least, so a longer list is a lie that could cost memory."""
        if count > len(self.content) - self.place:
            raise ValueError("the body is no CBOR: it ends too early")
        return count

    def take(self, size: int) -> bytes:
        part = self.content[self.place : self.place + self.checked(size)]
        self.place += size
        return part


def _tagged(tag: int, value: Any) -> Any:
    # Not datetime.fromtimestamp: it leaves the range to the C library, whose OSError says nothing of the body.
    return _EPOCH + timedelta(seconds=value) if tag == 1 else value


def encode(value: Any) -> bytes:
    """The bytes of None, bool, int, float, str, bytes, datetime, and lists and dicts of them."""
    out = bytearray()
    _encode(value, out)
    return bytes(out)


def _encode(value: Any, out: bytearray) -> None:
    if value is None or isinstance(value, bool):
        out.append({False: 0xF4, True: 0xF5, None: 0xF6}[value])
    elif isinstance(value, int):
        _head(0 if value >= 0 else 1, value if value >= 0 else -1 - value, out)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xFB, value)
    elif isinstance(value, datetime):
        out.append(0xC1)
        _encode(value.timestamp(), out)
    elif isinstance(value, bytes | str):
        content = value if isinstance(value, bytes) else value.encode()
        _head(2 if isinstance(value, bytes) else 3, len(content), out)
        out += content
    elif isinstance(value, dict):
        _head(5, len(value), out)
        for key, member in value.items():
            _encode(key, out)
            _encode(member, out)
    else:
        _head(4, len(value), out)
        for member in value:
            _encode(member, out)


def _head(kind: int, number: int, out: bytearray) -> None:
    if number < 24:
        out.append(kind << 5 | number)
        return
    for detail, format in _INTEGERS.items():
        if number < 1 << 8 * struct.calcsize(format):
            out.append(kind << 5 | detail)
            out += struct.pack(format, number)
            return
    raise ValueError(f"{number} is too large for CBOR's integers")
