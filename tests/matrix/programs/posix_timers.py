"""timer_create: old numbers with gaps, time left, the value in the signal, a timer aimed at one thread."""

import ctypes
import signal
import struct
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
FAST, SLOW, AIMED = signal.SIGRTMIN + 4, signal.SIGRTMIN + 5, signal.SIGRTMIN + 6
TO_THREAD = 4


def create(number, value, notify=0, target=0):
    timer = ctypes.c_long()
    event = struct.pack("=Qiii", value, number, notify, target).ljust(64, b"\0")
    assert libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(timer)) == 0
    return timer.value


def arm(timer, value, interval=0.0):
    times = [int(part) for number in (interval, value) for part in (number // 1, number % 1 * 1e9)]
    libc.timer_settime(ctypes.c_long(timer), 0, struct.pack("=4q", *times), None)


def left(timer):
    buffer = ctypes.create_string_buffer(32)
    libc.timer_gettime(ctypes.c_long(timer), buffer)
    values = struct.unpack("=4q", buffer.raw)
    return values[2] + values[3] / 1e9


def received(*numbers):
    """Signal and sender's code, and the sigev_value that came with it (siginfo offset 24)."""
    mask = struct.pack("=Q", sum(1 << number - 1 for number in numbers)).ljust(128, b"\0")
    information = ctypes.create_string_buffer(128)
    libc.sigtimedwait(mask, information, struct.pack("=2q", 10, 0))
    number, _, code = struct.unpack_from("=3i", information.raw)
    return [number - signal.SIGRTMIN, code, struct.unpack_from("=Q", information.raw, 24)[0]]


def prepare():
    signal.pthread_sigmask(signal.SIG_BLOCK, [FAST, SLOW, AIMED])
    dropped = [create(FAST, 0) for _ in range(3)]
    fast = create(FAST, 0x1234567890)
    slow = create(SLOW, 1)
    aimed = create(AIMED, 5, TO_THREAD, threading.get_native_id())
    for timer in dropped:
        libc.timer_delete(ctypes.c_long(timer))
    arm(fast, 0.5)
    arm(slow, 1000, 3)
    arm(aimed, 0.55)
    return fast, slow, aimed


def check(state):
    fast, slow, aimed = state
    remaining = left(fast), left(slow)
    first, second = received(FAST), received(AIMED)
    return [0 < remaining[0] < 0.5, 900 < remaining[1] < 1000, first, second, left(fast), [fast, slow, aimed]]
