"""A memfd: contents, size, offset, seals, and a shared mapping of the same file."""

import errno
import fcntl
import mmap
import os
import time


def prepare():
    plain = os.memfd_create("plain")
    os.write(plain, b"0123456789" * 1000)
    os.lseek(plain, 5, os.SEEK_SET)
    view = mmap.mmap(plain, 0)
    sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(sealed, b"final")
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    return plain, view, sealed


def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def check(state):
    plain, view, sealed = state
    read = os.read(plain, 5).decode()
    own = os.urandom(8)
    view[100:108] = own
    time.sleep(0.05)
    joined = os.pread(plain, 8, 100) == own
    seals = fcntl.fcntl(sealed, fcntl.F_GET_SEALS)
    link = os.readlink(f"/proc/self/fd/{sealed}")
    refusals = [refused(os.ftruncate, sealed, 1), refused(os.pwrite, sealed, b"x", 0)]
    return [read, joined, os.fstat(plain).st_size, seals, link, refusals, os.pread(sealed, 9, 0).decode()]
