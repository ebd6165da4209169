"""signalfd: its set, and a signal that waits in it."""

import ctypes
import os
import signal
import struct

libc = ctypes.CDLL(None, use_errno=True)
WANTED = [signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 3]


def prepare():
    signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)
    mask = struct.pack("=Q", sum(1 << number - 1 for number in WANTED)).ljust(128, b"\0")
    descriptor = libc.signalfd(-1, mask, os.O_NONBLOCK)
    os.kill(os.getpid(), signal.SIGTERM)
    return descriptor


def received(descriptor):
    try:
        return struct.unpack_from("=I", os.read(descriptor, 128))[0]
    except BlockingIOError:
        return 0


def check(descriptor):
    first = [received(descriptor), received(descriptor)]
    for number in WANTED[::2]:
        os.kill(os.getpid(), number)
    return [first, received(descriptor), received(descriptor), received(descriptor)]
