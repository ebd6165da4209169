"""Calls that the kernel ends with EINTR when it stops a thread (signal(7)) do not show it: nobody sent a signal."""

import ctypes
import os
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
answers = {}


def worker(name, call, *arguments):
    ctypes.set_errno(0)
    result = call(*arguments)
    answers[name] = [result, os.strerror(ctypes.get_errno())]


def prepare():
    reader, writer = os.pipe()
    epoll = libc.epoll_create1(0)
    event = (ctypes.c_uint32 * 3)(1, 7, 0)
    libc.epoll_ctl(epoll, 1, reader, event)
    found = (ctypes.c_uint32 * 3)()
    mask = (ctypes.c_ulong * 16)(1 << 9)  # SIGUSR1
    pause = (ctypes.c_long * 2)(0, 400_000_000)
    poll = (ctypes.c_int * 2)(reader, 1)
    threads = [
        threading.Thread(target=worker, args=args)
        for args in (
            ("epoll_wait", libc.epoll_wait, epoll, found, 1, 60_000),
            ("poll", libc.poll, poll, 1, 60_000),
            ("nanosleep", libc.nanosleep, pause, None),
            ("sigtimedwait", libc.sigtimedwait, mask, None, pause),
        )
    ]
    libc.pthread_sigmask(0, mask, None)
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    return threads, writer, (epoll, event, found, mask, pause, poll)


def check(state):
    threads, writer, _ = state
    time.sleep(0.1)
    os.write(writer, b"x")
    for thread in threads:
        thread.join(10)
    return answers
