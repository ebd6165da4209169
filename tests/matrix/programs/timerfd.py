"""timerfd: the time that was left, the interval, ticks nobody has read, a timer that is not armed."""

import ctypes
import os
import select
import struct
import time

libc = ctypes.CDLL(None, use_errno=True)


def timer(clock, value, interval=0.0, flags=0):
    descriptor = libc.timerfd_create(clock, os.O_NONBLOCK)
    times = [int(part) for number in (interval, value) for part in (number // 1, number % 1 * 1e9)]
    libc.timerfd_settime(descriptor, flags, struct.pack("=4q", *times), None)
    return descriptor


def left(descriptor):
    buffer = ctypes.create_string_buffer(32)
    libc.timerfd_gettime(descriptor, buffer)
    values = struct.unpack("=4q", buffer.raw)
    return values[2] + values[3] / 1e9, values[0] + values[1] / 1e9


def read(descriptor):
    try:
        return int.from_bytes(os.read(descriptor, 8), "little")
    except BlockingIOError:
        return 0


def prepare():
    soon = timer(time.CLOCK_MONOTONIC, 1.0)
    far = timer(time.CLOCK_REALTIME, 1000.0, 7.5)
    expired = timer(time.CLOCK_MONOTONIC, 0.01)
    idle = timer(time.CLOCK_MONOTONIC, 0)
    time.sleep(0.05)
    return soon, far, expired, idle


def check(state):
    soon, far, expired, idle = state
    early, left_soon = read(soon), left(soon)[0]
    left_far, interval = left(far)
    waited = bool(select.select([soon], [], [], 10)[0])
    return [early, 0 < left_soon < 1.0, 900 < left_far < 1000, interval, read(expired), waited, read(soon), left(idle)]
