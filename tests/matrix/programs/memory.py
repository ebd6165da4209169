import mmap


def prepare():
    block = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[5000:5005] = b"hello"
    return {"text": "x" * 100000, "block": block}


def check(state):
    state["block"].madvise(mmap.MADV_DONTNEED)
    return [len(state["text"]), state["block"][5000:5005].hex()]
