"""The alternate signal stack: faulthandler's is in place, and a handler runs on it."""

import ctypes
import struct

libc = ctypes.CDLL(None, use_errno=True)
SIZE = 65536
area = ctypes.create_string_buffer(SIZE)
seen = []
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)


def current():
    buffer = ctypes.create_string_buffer(24)
    libc.sigaltstack(None, buffer)
    return struct.unpack("=QiIQ", buffer.raw)


@HANDLER
def handler(_):
    flags = current()[1]
    seen.append(flags)


def prepare():
    libc.sigaltstack(struct.pack("=QiIQ", ctypes.addressof(area), 0, 0, SIZE), None)
    action = struct.pack(
        "=Q128siQ", ctypes.cast(handler, ctypes.c_void_p).value, bytes(128), 0x08000000, 0
    )  # SA_ONSTACK
    libc.sigaction(12, action, None)
    return current()


def check(before):
    after = current()
    libc.raise_(12) if hasattr(libc, "raise_") else getattr(libc, "raise")(12)
    return [after == before, after[0] == ctypes.addressof(area), after[3], seen]
