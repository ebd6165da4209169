"""Pages that MADV_GUARD_INSTALL guards end who touches them; their neighbours have their contents."""

import ctypes
import mmap
import os

_GUARD_INSTALL = 102
_libc = ctypes.CDLL(None, use_errno=True)


def guarded(flags):
    block = mmap.mmap(-1, 16 * 4096, flags=flags | mmap.MAP_ANONYMOUS)
    block[:3], block[8192:8195] = b"low", b"top"
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    done = _libc.madvise(ctypes.c_void_p(address + 4096), 4096, _GUARD_INSTALL) == 0  # since Linux 6.13
    return block, done


def prepare():
    return guarded(mmap.MAP_PRIVATE), guarded(mmap.MAP_SHARED)


def touched(block):
    """The signal that ends a child that reads the page; 0 for none."""
    child = os.fork()
    if not child:
        block[4096]
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check(state):
    return [
        [block[:3].decode(), block[8192:8195].decode(), touched(block) == (-11 if done else 0)] for block, done in state
    ]
