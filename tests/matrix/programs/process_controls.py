"""prctl settings: subreaper, transparent huge pages, timer slack of each thread, dumpable; a thread's affinity."""

import ctypes
import os
import queue
import threading

libc = ctypes.CDLL(None, use_errno=True)
SET_SUBREAPER, GET_SUBREAPER, SET_THP, GET_THP, SET_SLACK, GET_SLACK, GET_DUMPABLE = 36, 37, 41, 42, 29, 30, 3
requests, answers = queue.Queue(), queue.Queue()


def serve():
    libc.prctl(SET_SLACK, 70_000)
    os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    answers.put(None)
    while requests.get():
        answers.put([libc.prctl(GET_SLACK), os.sched_getaffinity(0) == {max(os.sched_getaffinity(os.getpid()))}])


def prepare():
    libc.prctl(SET_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(SET_THP, 1, 0, 0, 0)
    libc.prctl(SET_SLACK, 90_000)
    threading.Thread(target=serve, daemon=True).start()
    answers.get(timeout=5)


def check(_):
    subreaper = ctypes.c_int()
    libc.prctl(GET_SUBREAPER, ctypes.byref(subreaper))
    requests.put(True)
    return [
        subreaper.value,
        libc.prctl(GET_THP, 0, 0, 0, 0),
        libc.prctl(GET_SLACK),
        answers.get(timeout=5),
        libc.prctl(GET_DUMPABLE),
    ]
