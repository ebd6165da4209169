"""Private anonymous memory: contents, zeros after MADV_DONTNEED, protections, holes, and 100 000 Python objects."""

import ctypes
import mmap

libc = ctypes.CDLL(None, use_errno=True)
PAGE = 4096


def prepare():
    block = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[5000:5005] = b"hello"
    block[-5:] = b"world"
    return {"objects": [str(number) for number in range(100_000)], "block": block}


def check(state):
    block = state["block"]
    before = [bytes(block[5000:5005]).decode(), bytes(block[-5:]).decode(), bytes(block[9000:9004]).hex()]
    block.madvise(mmap.MADV_DONTNEED)
    after = [bytes(block[5000:5005]).hex(), bytes(block[-5:]).hex()]
    return [before, after, sum(map(int, state["objects"]))]
