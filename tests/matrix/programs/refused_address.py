"""Memory where the restorer lives."""

import ctypes
import mmap

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p


def prepare():
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
    size = ctypes.c_size_t(4096)
    assert libc.mmap(ctypes.c_void_p(0x5100_0000_0000), size, 1, flags, -1, ctypes.c_long(0)) == 0x5100_0000_0000
