"""The process has a new number, everyone agrees on it, and signals find process, threads and group."""

import ctypes
import os
import signal
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.pthread_self.restype = ctypes.c_ulong
libc.pthread_kill.argtypes = [ctypes.c_ulong, ctypes.c_int]
got = []


def prepare():
    signal.signal(signal.SIGUSR1, lambda *_: got.append(threading.get_native_id()))
    release = threading.Event()
    numbers = []
    thread = threading.Thread(target=lambda: (numbers.append(libc.gettid()), release.wait()))
    thread.start()
    time.sleep(0.05)
    return os.getpid(), libc.pthread_self(), release, numbers, thread


def check(state):
    old, main, release, numbers, thread = state
    pid = os.getpid()
    agree = [libc.gettid() == pid, threading.get_native_id() == pid, os.readlink("/proc/self") == str(pid)]
    group = [os.getpgrp() == pid, os.getsid(0) == pid]
    getattr(libc, "raise")(signal.SIGUSR1)
    sent = [libc.pthread_kill(main, signal.SIGUSR1), libc.tgkill(pid, pid, signal.SIGUSR1)]
    from_other = []
    sender = threading.Thread(target=lambda: from_other.append(libc.pthread_kill(main, signal.SIGUSR1)))
    sender.start()
    sender.join()
    os.killpg(0, signal.SIGUSR1)
    time.sleep(0.2)  # time for signals of other clones, which must not come
    alive = libc.tgkill(pid, numbers[0], 0)
    release.set()
    thread.join(5)
    return [pid != old, agree, group, sent, from_other, len(got), set(got) == {pid}, alive]
