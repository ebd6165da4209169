"""application/vnd.amazon.eventstream: the framing of the answers of InvokeWithResponseStream and StartLiveTail.

A message is its length, the length of its headers, the CRC of these two, the headers, the payload, and the CRC of all
that; numbers are big-endian, CRCs are CRC-32. A header is its name, the type 7 (string) and its value.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
_STRING = 7


def event(kind: str, content_type: str, payload: bytes) -> bytes:
    """One event of the stream."""
    return _message({":event-type": kind, ":content-type": content_type, ":message-type": "event"}, payload)


def exception(kind: str, content_type: str, payload: bytes) -> bytes:
    """An error that ends the stream."""
    return _message({":exception-type": kind, ":content-type": content_type, ":message-type": "exception"}, payload)


def _message(headers: Mapping[str, str], payload: bytes) -> bytes:
    encoded = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    lengths = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    head = lengths + struct.pack("!I", crc32(lengths)) + encoded
    checksum = crc32(payload, crc32(head))
    return b"".join((head, payload, struct.pack("!I", checksum)))


def _header(name: bytes, value: bytes) -> bytes:
    return struct.pack("!B", len(name)) + name + struct.pack("!BH", _STRING, len(value)) + value
