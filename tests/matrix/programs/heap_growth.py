"""The heap: the break is where it was, grows, and malloc goes on in it."""

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_void_p
libc.sbrk.argtypes = [ctypes.c_ssize_t]
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def heap_end():
    with open("/proc/self/maps") as file:
        ends = [line.split()[0].split("-")[1] for line in file if line.rstrip().endswith("[heap]")]
    return int(ends[-1], 16)


def prepare():
    blocks = [libc.malloc(1000) for _ in range(2000)]
    for number, block in enumerate(blocks):
        ctypes.memset(block, number % 251, 1000)
    return blocks


def check(blocks):
    kept = all(ctypes.string_at(block, 1000) == bytes([n % 251]) * 1000 for n, block in enumerate(blocks))
    end = libc.sbrk(0)
    known = end == heap_end()
    grown = [libc.sbrk(8 << 20) == end, libc.sbrk(0) - end == 8 << 20, heap_end() - end == 8 << 20]
    ctypes.memset(end, 7, 8 << 20)
    for block in blocks:
        libc.free(block)
    fresh = [libc.malloc(5000) for _ in range(2000)]
    for block in fresh:
        ctypes.memset(block, 1, 5000)
    return [kept, known, grown, ctypes.string_at(end + (8 << 20) - 1, 1).hex(), len(set(fresh))]
