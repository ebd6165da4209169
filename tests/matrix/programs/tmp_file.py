"""Open files in /tmp: offset, append flag, read-only access, contents; each clone has its own."""

import errno
import os
import pathlib
import time


def prepare():
    log = os.open("/tmp/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(log, b"one\n")
    reader = os.open("/tmp/log", os.O_RDONLY)
    os.read(reader, 2)
    stream = pathlib.Path("/tmp/buffered").open("w")  # noqa: SIM115
    stream.write("still in the buffer")
    return log, reader, stream


def check(state):
    log, reader, stream = state
    mark = os.urandom(4).hex().encode()
    os.lseek(log, 0, os.SEEK_SET)
    os.write(log, mark)
    time.sleep(0.05)
    rest = os.read(reader, 100)
    stream.close()
    try:
        os.write(reader, b"x")
        refused = ""
    except OSError as error:
        refused = errno.errorcode[error.errno]
    return [rest == b"e\n" + mark, refused, pathlib.Path("/tmp/buffered").read_text()]
