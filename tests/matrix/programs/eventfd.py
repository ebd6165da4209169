"""eventfd: counter, semaphore mode, a counter beyond 32 bits, non-blocking flag."""

import os


def prepare():
    counter = os.eventfd(0, os.EFD_NONBLOCK)
    os.eventfd_write(counter, 41)
    os.eventfd_write(counter, 1)
    semaphore = os.eventfd(3, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
    large = os.eventfd(0)
    os.eventfd_write(large, (1 << 40) + 5)
    return counter, semaphore, large


def drained(descriptor):
    values = []
    while True:
        try:
            values.append(os.eventfd_read(descriptor))
        except BlockingIOError:
            return values


def check(state):
    counter, semaphore, large = state
    return [drained(counter), drained(semaphore), os.eventfd_read(large)]
