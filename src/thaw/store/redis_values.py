"""Large values out of Redis: from the socket into a buffer that is used again, without a copy in between.

redis-py parses answers for everything else; its parsers copy a value two to three times, which for chunks of 512 KiB
is most of the time that a read takes. Connections, with what they negotiate (TLS, passwords, databases), are its own.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/ (bulk strings, nulls, errors).
"""

from __future__ import annotations

import time
from typing import Any

import redis

FRAME = 64
"""Bytes that a value's answer may have besides the value."""
_END = b"\r\n"
_NULLS = (b"$-1", b"_")


def read_value(client: Any, key: str, buffer: memoryview, limit_s: float) -> memoryview | int | None:
    """The value of `key`, a part of `buffer`; its size where it is larger than the buffer; None where there is none.

    `client` is redis-py's, for one server or a cluster. Raises as its methods do, and TimeoutError where the whole
    answer takes longer than `limit_s`: the client's own limit begins anew with every byte.
    """
    pool = _pool(client, key)
    connection = pool.get_connection()
    try:
        connection.send_command("GET", key)
        # There is no public name for it; the store's contract suite fails where it is called something else.
        answer = _Answer(connection._sock, buffer, time.monotonic() + limit_s)
        content = answer.read()
        if answer.pending:
            connection.disconnect()
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
    if isinstance(content, bytes):  # an error: redis-py asks again, follows a cluster's redirections, or raises
        value: bytes | None = client.get(key)
        return None if value is None else _into(buffer, value)
    return content


def _pool(client: Any, key: str) -> Any:
    """Connections to the server, or to the node of a cluster, that has the key."""
    if (node_of := getattr(client, "get_node_from_key", None)) is None:
        return client.connection_pool
    return client.get_redis_connection(node_of(key)).connection_pool


def _into(buffer: memoryview, value: bytes) -> memoryview | int:
    if len(value) > len(buffer) - FRAME:
        return len(value)
    buffer[: len(value)] = value
    return buffer[: len(value)]


class _Answer:
    """One answer on its way into a buffer. `pending` says that a part of it is still on its way when it was read."""

    def __init__(self, sock: Any, buffer: memoryview, deadline: float) -> None:
        self._socket = sock
        self._buffer = buffer
        self._deadline = deadline
        self._count = 0
        self.pending = False

    def read(self) -> memoryview | int | bytes | None:
        """The value, its size where it is too large, the line of an error, or None."""
        line = self._line()
        start = len(line) + len(_END)
        if line in _NULLS:
            return None
        if not line.startswith(b"$"):
            self.pending = True
            return line
        size = int(line[1:])
        if size > len(self._buffer) - FRAME:
            self.pending = True
            return size
        while self._count < start + size + len(_END):
            self._receive()
        return self._buffer[start : start + size]

    def _line(self) -> bytes:
        while (end := bytes(self._buffer[: min(self._count, FRAME)]).find(_END)) < 0:
            if self._count >= FRAME:
                return bytes(self._buffer[:FRAME])  # only errors are that long
            self._receive()
        return bytes(self._buffer[:end])

    def _receive(self) -> None:
        received = self._socket.recv_into(self._buffer[self._count :])
        if not received:
            raise redis.exceptions.ConnectionError("the server closed the connection")
        self._count += received
        if time.monotonic() > self._deadline:
            raise TimeoutError("its answer comes too slowly")
