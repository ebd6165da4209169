"""A named pipe in /tmp, open at both ends by separate opens, with unread data."""

import errno
import os


def prepare():
    os.mkfifo("/tmp/queue")
    reader = os.open("/tmp/queue", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open("/tmp/queue", os.O_WRONLY)
    os.write(writer, b"queued")
    return reader, writer


def check(state):
    reader, writer = state
    first = os.read(reader, 100).decode()
    os.write(writer, b"second")
    second = os.read(reader, 100).decode()
    try:
        os.write(reader, b"x")
        refused = ""
    except OSError as error:
        refused = errno.errorcode[error.errno]
    other = os.open("/tmp/queue", os.O_WRONLY | os.O_NONBLOCK)
    os.write(other, b"third")
    third = os.read(reader, 100).decode()
    os.close(other)
    os.close(writer)
    return [first, second, refused, third, os.read(reader, 100).decode()]
