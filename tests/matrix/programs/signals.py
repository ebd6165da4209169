"""Handlers, ignored signals, the blocked mask; a pending signal is delivered once, with its value."""

import ctypes
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
seen = []
QUEUED = signal.SIGRTMIN + 1


def prepare():
    signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.siginterrupt(signal.SIGUSR1, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM, QUEUED])
    os.kill(os.getpid(), signal.SIGUSR1)
    for value in (7, 8):
        libc.sigqueue(os.getpid(), QUEUED, ctypes.c_void_p(value))
    libc.tgkill(os.getpid(), libc.gettid(), signal.SIGTERM)


def value_of(information):
    return information.si_signo - signal.SIGRTMIN


def check(_):
    mask = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    pending = sorted(signal.sigpending())
    queued = [value_of(signal.sigwaitinfo([QUEUED])) for _ in range(2)]
    before = list(seen)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    after = list(seen)
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR1)
    return [mask, pending, queued, before, after, list(seen), sorted(signal.sigpending())]
