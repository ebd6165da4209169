"""Locks on files: flock, fcntl (POSIX) ranges and open-file-description locks are held after the restore."""

import errno
import fcntl
import os
import struct


def prepare():
    held = []
    for name in ("flock", "posix", "ofd"):
        held.append(os.open(f"/tmp/{name}", os.O_RDWR | os.O_CREAT))
    fcntl.flock(held[0], fcntl.LOCK_EX)
    fcntl.lockf(held[1], fcntl.LOCK_EX, 10, 5)
    fcntl.lockf(held[1], fcntl.LOCK_SH, 0, 100)
    fcntl.fcntl(held[2], 37, record(fcntl.F_WRLCK, 0, 0))  # F_OFD_SETLK
    return held


def record(kind, start, length):
    return struct.pack("=hhiqqii", kind, os.SEEK_SET, 0, start, length, 0, 0)


def blocked_by(command, path, start, length):
    """What F_GETLK finds in the way, seen by a child: a POSIX lock never bars its own process."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        with open(path, "r+b") as file:
            found = fcntl.fcntl(file.fileno(), command, record(fcntl.F_WRLCK, start, length))
        kind, _, _, at, size, _, _ = struct.unpack("=hhiqqii", found)
        os.write(writer, f"{kind} {at} {size}".encode())
        os._exit(0)
    os.wait()
    os.close(writer)
    return os.read(reader, 100).decode()


def check(held):
    with open("/tmp/flock") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
            flock = ""
        except OSError as error:
            flock = errno.errorcode[error.errno]
    ranges = [blocked_by(fcntl.F_GETLK, "/tmp/posix", *each) for each in ((20, 5), (0, 10), (100, 5), (10, 100))]
    fcntl.flock(held[0], fcntl.LOCK_UN)
    return [flock, ranges, blocked_by(36, "/tmp/ofd", 0, 0)]  # F_OFD_GETLK
