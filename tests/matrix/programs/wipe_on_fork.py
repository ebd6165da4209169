"""Memory with MADV_WIPEONFORK is empty in a clone, as it is in a child, and stays so marked."""

import mmap
import os


def prepare():
    block = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(18)  # MADV_WIPEONFORK
    block[:6] = b"secret"
    return block


def check(block):
    wiped = bytes(block[:6]).hex()
    block[:3] = b"new"
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, bytes(block[:3]))
        os._exit(0)
    os.wait()
    return [wiped, bytes(block[:3]).decode(), os.read(reader, 3).hex()]
