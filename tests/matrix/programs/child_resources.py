"""What a child process has for itself: limits, mask, locks, an epoll set, signals, a timer, a name, a sealed memfd."""

import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import resource
import select
import signal

_context = multiprocessing.get_context("fork")
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_NAME = 1, 2, 15


def child(connection, sealed):
    libc = ctypes.CDLL(None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (99, 1000))
    os.umask(0o27)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGUSR2, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"renamed", 0, 0, 0)
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append("USR1"))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    file = os.open("/tmp/locked", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(file, fcntl.LOCK_EX)
    reading, writing = os.pipe()
    watcher = select.epoll()
    watcher.register(reading, select.EPOLLIN)
    view = mmap.mmap(sealed, 4096, mmap.MAP_SHARED, mmap.PROT_READ)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    connection.send("ready")
    connection.recv()
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    os.write(writing, b"x")
    events = [[number == reading, event] for number, event in watcher.poll(5)]
    pending = [int(each) for each in signal.sigpending()]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    name = ctypes.create_string_buffer(16)
    libc.prctl(16, name, 0, 0, 0)
    at_end = ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(at_end), 0, 0, 0)
    mask = os.umask(0)
    connection.send([
        pending, oct(mask), list(resource.getrlimit(resource.RLIMIT_NOFILE)), events, got, at_end.value,
        900 < left < 1000, name.value.decode(), view[:6].decode(),
    ])  # fmt: skip
    connection.recv()


def prepare():
    sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.write(sealed, b"sealed".ljust(4096))
    near, far = _context.Pipe()
    process = _context.Process(target=child, args=(far, sealed))
    process.start()
    assert near.recv() == "ready"
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return near, process, sealed


def check(state):
    near, process, sealed = state
    assert fcntl.fcntl(sealed, fcntl.F_GET_SEALS) == fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
    with open("/tmp/locked", "r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = ""
        except OSError as error:
            locked = errno.errorcode[error.errno]
    near.send("go")
    found = near.recv()
    near.send("end")
    process.join()
    return [*found[:3], locked, *found[3:]]
