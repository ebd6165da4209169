"""An open file whose name is gone, twice open, and a shared mapping of it."""

import mmap
import os


def prepare():
    path = "/tmp/gone"
    first = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    os.write(first, b"nameless" * 2000)
    second = os.open(path, os.O_RDONLY)
    view = mmap.mmap(first, 0)
    os.unlink(path)
    os.lseek(second, 8, os.SEEK_SET)
    return first, second, view


def check(state):
    first, second, view = state
    read = os.read(second, 8).decode()
    os.pwrite(first, b"RENEWED!", 16)
    status = os.fstat(first)
    same = os.fstat(second).st_ino == status.st_ino
    return [
        read, os.read(second, 8).decode(), bytes(view[16:24]).decode(), status.st_size, status.st_nlink,
        oct(status.st_mode), status.st_uid == os.getuid(), os.lseek(first, 0, os.SEEK_CUR), same, os.listdir("/tmp"),
    ]  # fmt: skip
