"""Memory of a forked child where it is as its parent's, and where it has become another: written by either, zeroed,
given back, made read-only, unmapped, and overwritten copies of a file's pages."""

import ctypes
import mmap
import multiprocessing
import os

_context = multiprocessing.get_context("fork")
_PAGE, _PAGES = 4096, 64
_MADV_DONTNEED, _PROT_READ, _PROT_READ_WRITE, _PRIVATE = 4, 1, 3, 2


def _pattern(page):
    return bytes([page + 1]) * _PAGE


def _address(area):
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def _describe(area):
    """The first byte of each page, all bytes of which are equal."""
    found = []
    for page in range(_PAGES):
        content = area[page * _PAGE : (page + 1) * _PAGE]
        assert content == content[:1] * _PAGE, page
        found.append(content[0])
    return found


def _is_mapped(address):
    with open("/proc/self/maps") as file:
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in file]
    return any(start <= address < end for start, end in ranges)


def child(connection, area, file, gone):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    area[_PAGE : 2 * _PAGE] = b"\xee" * _PAGE
    area[2 * _PAGE : 3 * _PAGE] = bytes(_PAGE)
    file[0:_PAGE] = b"\xcc" * _PAGE
    file[_PAGE : 2 * _PAGE] = bytes(_PAGE)
    assert libc.madvise(_address(area) + 3 * _PAGE, _PAGE, _MADV_DONTNEED) == 0
    assert libc.mprotect(_address(file), len(file), _PROT_READ) == 0
    assert libc.munmap(gone, _PAGE * _PAGES) == 0
    connection.send("ready")
    connection.recv()
    connection.send([_describe(area), _describe(file), _is_mapped(gone)])
    connection.recv()


def prepare():
    area = mmap.mmap(-1, _PAGE * _PAGES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for page in range(_PAGES):
        area[page * _PAGE : (page + 1) * _PAGE] = _pattern(page)
    descriptor = os.memfd_create("private")
    os.write(descriptor, b"".join(_pattern(page) for page in range(_PAGES)))
    file = mmap.mmap(descriptor, _PAGE * _PAGES, mmap.MAP_PRIVATE, _PROT_READ_WRITE)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    gone = libc.mmap(None, _PAGE * _PAGES, _PROT_READ_WRITE, _PRIVATE | 0x20, -1, 0)
    near, far = _context.Pipe()
    process = _context.Process(target=child, args=(far, area, file, gone))
    process.start()
    assert near.recv() == "ready"
    area[4 * _PAGE : 5 * _PAGE] = b"\xdd" * _PAGE  # behind the child's back
    file[2 * _PAGE : 3 * _PAGE] = b"\xbb" * _PAGE
    return near, process, area, file, gone


def _differences(found):
    return {page: value for page, value in enumerate(found) if value != page + 1}


def check(state):
    near, process, area, file, gone = state
    near.send("go")
    childs_area, childs_file, still = near.recv()
    found = [
        _differences(childs_area), _differences(childs_file), still,
        _differences(_describe(area)), _differences(_describe(file)), _is_mapped(gone),
    ]  # fmt: skip
    near.send("end")
    process.join()
    return found
