"""An inotify watch on a file that is open but has no name any more."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def prepare():
    held = os.open("/tmp/watched", os.O_RDONLY | os.O_CREAT, 0o600)
    descriptor = libc.inotify_init1(0)
    libc.inotify_add_watch(descriptor, b"/tmp/watched", 2)
    os.dup2(descriptor, 40)
    os.close(descriptor)
    os.unlink("/tmp/watched")
    return held
