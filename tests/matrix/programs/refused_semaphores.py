"""A System V semaphore set: no descriptor and no mapping shows it."""

import ctypes


def prepare():
    assert ctypes.CDLL(None).semget(0, 1, 0o1600) >= 0
