"""Shared anonymous memory: shared with the clone's own children, not with other clones."""

import mmap
import os
import time


def prepare():
    block = mmap.mmap(-1, 1 << 20)
    block[:6] = b"frozen"
    block[500_000:500_004] = b"deep"
    return block


def check(block):
    first, deep = bytes(block[:6]).decode(), bytes(block[500_000:500_004]).decode()
    own = os.urandom(16)
    block[100:116] = own
    time.sleep(0.1)  # the other clones write theirs meanwhile
    kept = bytes(block[100:116]) == own
    child = os.fork()
    if child == 0:
        block[200:205] = b"child"
        os._exit(0)
    os.waitpid(child, 0)
    return [first, deep, kept, bytes(block[200:205]).decode()]
