"""Much memory that a restore does not touch: it arrives when the clone asks for it."""

import ctypes
import hashlib
import mmap
import os

SIZE = 24 << 20


def prepare():
    block = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(0, SIZE, 4096):
        block[page : page + 8] = page.to_bytes(8, "little")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mremap.restype = ctypes.c_void_p
    libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    return {"block": block, "address": address, "libc": libc}


def number_at(address):
    return int.from_bytes(ctypes.string_at(address, 8), "little")


def fork_and_look(address, number):
    child = os.fork()
    if child == 0:
        os._exit(0 if number_at(address + (9 << 20) + number * 65536) == (9 << 20) + number * 65536 else 1)
    return child


def check(state):
    address, libc = state["address"], state["libc"]
    found = {"first": number_at(address), "last": number_at(address + SIZE - 4096)}
    given_back = address + (4 << 20)
    libc.madvise(ctypes.c_void_p(given_back), ctypes.c_size_t(1 << 20), 4)
    found["given_back"] = [
        number_at(given_back),
        number_at(given_back + (1 << 20) - 4096),
        number_at(given_back + (1 << 20)),
    ]
    child = os.fork()
    if child == 0:
        os._exit(0 if number_at(address + (8 << 20)) == 8 << 20 and number_at(given_back + 8192) == 0 else 1)
    found["child"] = os.waitpid(child, 0)[1]
    found["children"] = [os.waitpid(ended, 0)[1] for ended in (fork_and_look(address, number) for number in range(40))]
    # A piece of its own, far from where it was: the pages that nobody has touched yet move along.
    moved = libc.mremap(address + (16 << 20), 2 << 20, 4 << 20, 1)
    found["moved"] = [number_at(moved), number_at(moved + (2 << 20) - 4096), number_at(moved + (2 << 20))]
    digest = hashlib.sha256()
    for page in range(0, 16 << 20, 4096):
        if not (4 << 20) <= page < (5 << 20):
            digest.update(ctypes.string_at(address + page, 4096))
    found["digest"] = digest.hexdigest()
    return found
