"""A POSIX message queue: it looks like a file, but no file has its name."""

import ctypes
import os


def prepare():
    descriptor = ctypes.CDLL(None).mq_open(b"/queue", os.O_RDWR | os.O_CREAT, 0o600, None)
    assert descriptor >= 0
    os.dup2(descriptor, 40)
    os.close(descriptor)
