"""Mutexes that a thread holds across the snapshot: recursive and error-checking ones know their owner, robust ones its
death. A robust one also knows the main thread, whose number changes; the others then do not, as after fork(2).
"""

import ctypes
import os
import threading

libc = ctypes.CDLL(None, use_errno=True)
RECURSIVE, ERROR_CHECKING = 1, 2
answers = {}


def mutex(kind, robust=False):
    attributes, made = ctypes.create_string_buffer(16), ctypes.create_string_buffer(40)
    libc.pthread_mutexattr_init(attributes)
    libc.pthread_mutexattr_settype(attributes, kind)
    libc.pthread_mutexattr_setrobust(attributes, int(robust))
    libc.pthread_mutex_init(made, attributes)
    return made


def hold(mutexes, ready, release):
    libc.pthread_mutex_lock(mutexes["recursive"])
    libc.pthread_mutex_lock(mutexes["recursive"])
    libc.pthread_mutex_lock(mutexes["checking"])
    libc.pthread_mutex_lock(mutexes["robust"])
    ready.set()
    release.wait()
    answers["holder"] = [
        libc.pthread_mutex_lock(mutexes["recursive"]),
        *(libc.pthread_mutex_unlock(mutexes["recursive"]) for _ in range(3)),
        libc.pthread_mutex_lock(mutexes["checking"]),
        libc.pthread_mutex_unlock(mutexes["checking"]),
    ]  # and ends with the robust one locked


def prepare():
    mutexes = {
        "recursive": mutex(RECURSIVE), "checking": mutex(ERROR_CHECKING), "robust": mutex(0, True),
        "main": mutex(ERROR_CHECKING, True),
    }  # fmt: skip
    ready, release = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(mutexes, ready, release))
    thread.start()
    ready.wait()
    libc.pthread_mutex_lock(mutexes["main"])
    return mutexes, release, thread


def errors(*numbers):
    return [os.strerror(number) if number else "" for number in numbers]


def check(state):
    mutexes, release, thread = state
    busy = errors(*(libc.pthread_mutex_trylock(mutexes[name]) for name in ("recursive", "checking", "robust")))
    release.set()
    thread.join(5)
    free = errors(*(libc.pthread_mutex_lock(mutexes[name]) for name in ("recursive", "checking", "robust")))
    own = errors(libc.pthread_mutex_lock(mutexes["main"]), libc.pthread_mutex_unlock(mutexes["main"]))
    return [busy, errors(*answers["holder"]), free, own]
