"""A private mapping of a file: pages that were written, one of them with zeros, keep their contents, the others come
from the file."""

import mmap
import os


def prepare():
    descriptor = os.open(os.__file__, os.O_RDONLY)
    view = mmap.mmap(descriptor, 6 * 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(descriptor)
    view[4096:4101] = b"dirty"
    view[3 * 4096 : 4 * 4096] = bytes(4096)
    return view


def check(view):
    with open(os.__file__, "rb") as file:
        content = bytearray(file.read(6 * 4096))
    clean = bytes(view[4 * 4096 :]) == bytes(content[4 * 4096 :])
    content[4096:4101] = b"dirty"
    content[3 * 4096 : 4 * 4096] = bytes(4096)
    same = bytes(view) == bytes(content)
    view[8192:8196] = b"more"
    with open(os.__file__, "rb") as file:
        file.seek(8192)
        untouched = file.read(4) == bytes(content[8192:8196])
    return [clean, same, bytes(view[8192:8196]).decode(), untouched]
