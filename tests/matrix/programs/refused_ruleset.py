"""A Landlock rule set: a kind of descriptor that Thaw does not know."""

import ctypes
import os
import struct

LANDLOCK_CREATE_RULESET = 444


def prepare():
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(LANDLOCK_CREATE_RULESET, struct.pack("=Q", 1), ctypes.c_size_t(8), 0)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    os.dup2(descriptor, 40)
    os.close(descriptor)
