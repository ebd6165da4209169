"""Pipes: unread data, an enlarged size, non-blocking mode of one end, a full pipe."""

import fcntl
import os


def prepare():
    reader, writer = os.pipe2(os.O_NONBLOCK)
    os.set_blocking(writer, True)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(writer, bytes(range(250)) * 3000)
    full_reader, full_writer = os.pipe2(os.O_NONBLOCK)
    return reader, writer, full_reader, full_writer, os.write(full_writer, bytes(1 << 17))


def drained(reader):
    pieces = []
    while True:
        try:
            pieces.append(os.read(reader, 1 << 20))
        except BlockingIOError:
            return b"".join(pieces)


def check(state):
    reader, writer, full_reader, full_writer, filled = state
    try:
        more = os.write(full_writer, b"x")
    except BlockingIOError:
        more = 0
    same = drained(reader) == bytes(range(250)) * 3000
    os.write(writer, b"new")
    size = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
    flags = [os.get_blocking(end) for end in (reader, writer)]
    return [same, os.read(reader, 10).decode(), size, flags, filled, more, len(drained(full_reader))]
