"""Pipes with one end closed: the reader meets the end after the data, the writer meets EPIPE."""

import errno
import os


def prepare():
    reader, writer = os.pipe()
    os.write(writer, b"last words")
    os.close(writer)
    orphan_reader, orphan = os.pipe()
    os.close(orphan_reader)
    return reader, orphan


def check(state):
    reader, orphan = state
    try:
        os.write(orphan, b"x")
        refused = ""
    except BrokenPipeError as error:
        refused = errno.errorcode[error.errno]
    return [os.read(reader, 100).decode(), os.read(reader, 100).decode(), refused]
