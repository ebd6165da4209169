"""Netlink messages, several to a packet: what building a sandbox's network costs is mostly the round trips."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NLM_F_REQUEST, _NLM_F_ACK = 0x1, 0x4
CREATE = 0x400 | 0x200  # NLM_F_CREATE | NLM_F_EXCL
_NLMSG_ERROR = 2
_NESTED = 0x8000


def message(kind: int, body: bytes, flags: int = 0, *, acknowledge: bool = True) -> bytes:
    """One request; the sequence number is left 0."""
    wanted = flags | _NLM_F_REQUEST | (_NLM_F_ACK if acknowledge else 0)
    return _HEADER.pack(_HEADER.size + len(body), kind, wanted, 0, 0) + body


def attribute(kind: int, value: bytes | str | int) -> bytes:
    """One attribute, padded to four bytes; text gets its NUL, integers are 32 bits of the machine's order."""
    if isinstance(value, int):
        value = struct.pack("=I", value)
    elif isinstance(value, str):
        value = value.encode() + b"\0"
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    body = b"".join(attributes)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(body), kind | _NESTED) + body


class Netlink:
    """A netlink socket of one network namespace; blocking, for use in a thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    def open(cls, protocol: int) -> Netlink:
        """A socket in the calling thread's network namespace."""
        return cls(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol))

    @classmethod
    def adopt(cls, descriptor: int) -> Netlink:
        """Take over an open netlink socket, whatever namespace it belongs to."""
        return cls(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, fileno=descriptor))

    def request(self, messages: Sequence[bytes], *, answers: int | None = None) -> None:
        """Send all messages in one packet and wait for `answers` acknowledgements (default: one for each).

        Raises the first error as OSError; the messages after it have been carried out all the same.
        """
        self._socket.sendto(b"".join(messages), (0, 0))
        expected = len(messages) if answers is None else answers
        failure = 0
        while expected > 0:
            for number in _errors(self._socket.recv(65536)):
                failure = failure or number
                expected -= 1
        if failure:
            raise OSError(failure, os.strerror(failure))

    def close(self) -> None:
        """Close the socket; whatever it owns goes with it."""
        self._socket.close()


def _errors(packet: bytes) -> list[int]:
    """The errno of every acknowledgement in a packet; 0 is success."""
    found = []
    offset = 0
    while offset + _HEADER.size <= len(packet):
        length, kind, *_ = _HEADER.unpack_from(packet, offset)
        if kind == _NLMSG_ERROR:
            found.append(-struct.unpack_from("=i", packet, offset + _HEADER.size)[0])
        offset += max(_HEADER.size, (length + 3) & ~3)
    return found
