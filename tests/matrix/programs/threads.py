"""Threads blocked in a futex, a sleep, poll, read, select, epoll and sigtimedwait all go on.

Their thread-locals, numbers and names are kept.
"""

import ctypes
import os
import pathlib
import select
import signal
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NAME = 15
local = threading.local()
answers = {}
ready = threading.Barrier(8)


def worker(name, wait):
    local.name = name
    libc.prctl(PR_SET_NAME, name.encode())
    number = threading.get_native_id()
    ready.wait()
    result = wait()
    answers[name] = [result, local.name, number == threading.get_native_id() == libc.gettid()]


def prepare():
    event = threading.Event()
    pipes = [os.pipe() for _ in range(4)]
    epoll = select.epoll()
    epoll.register(pipes[3][0], select.EPOLLIN)
    poll = select.poll()
    poll.register(pipes[0][0], select.POLLIN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    waits = {
        "futex": event.wait,
        "sleep": lambda: time.sleep(0.5),
        "poll": lambda: len(poll.poll()),
        "read": lambda: os.read(pipes[1][0], 1).decode(),
        "select": lambda: len(select.select([pipes[2][0]], [], [])[0]),
        "epoll": lambda: len(epoll.poll()),
        "signal": lambda: signal.sigtimedwait([signal.SIGUSR2], 60).si_signo,
    }
    threads = [threading.Thread(target=worker, args=item, name=item[0]) for item in waits.items()]
    for thread in threads:
        thread.start()
    ready.wait()
    time.sleep(0.1)
    return event, [writer for _, writer in pipes], threads


def check(state):
    event, writers, threads = state
    names = sorted(path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm"))
    event.set()
    for writer in writers:
        os.write(writer, b"!")
    os.kill(os.getpid(), signal.SIGUSR2)
    for thread in threads:
        thread.join(10)
    return [names, answers, threading.active_count()]
