"""Memory with MADV_DONTFORK survives: for the function a restore is no fork. Children still do not get it."""

import mmap
import os
import signal


def prepare():
    block = mmap.mmap(-1, 3 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[4096:4100] = b"kept"
    block.madvise(mmap.MADV_DONTFORK)
    return block


def check(block):
    child = os.fork()
    if child == 0:
        os._exit(block[4096])
    _, status = os.waitpid(child, 0)
    return [bytes(block[4096:4100]).decode(), signal.Signals(os.WTERMSIG(status)).name]
