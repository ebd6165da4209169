"""Protections: memory that may not be touched, read-only memory with contents, code made at run time."""

import ctypes
import mmap
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
READ, WRITE, EXECUTE = 1, 2, 4
RETURN_42 = bytes.fromhex("b82a000000c3")  # mov eax, 42; ret


def region(size):
    return libc.mmap(None, size, READ | WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)


def prepare():
    start = region(3 * 4096)
    ctypes.memmove(start, RETURN_42, len(RETURN_42))
    ctypes.memmove(start + 4096, b"constant", 8)
    libc.mprotect(start, 4096, READ | EXECUTE)
    libc.mprotect(start + 4096, 4096, READ)
    libc.mprotect(start + 8192, 4096, 0)
    return start


def readable(address):
    """Whether the kernel can read the byte at an address: a write of it into a pipe fails with EFAULT else."""
    reader, writer = os.pipe()
    written = libc.write(writer, ctypes.c_void_p(address), ctypes.c_size_t(1))
    os.close(reader)
    os.close(writer)
    return written == 1


def permissions(address):
    with open("/proc/self/maps") as file:
        for line in file:
            start, end = (int(value, 16) for value in line.split()[0].split("-"))
            if start <= address < end:
                return line.split()[1]
    return ""


def check(start):
    answer = ctypes.CFUNCTYPE(ctypes.c_int)(start)()
    constant = ctypes.string_at(start + 4096, 8).decode()
    return [answer, constant, readable(start + 8192), [permissions(start + offset) for offset in (0, 4096, 8192)]]
