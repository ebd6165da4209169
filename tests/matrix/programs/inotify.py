"""inotify: old watch numbers, also after gaps; changes are reported; nothing is reported that did not happen."""

import ctypes
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
CREATE, MODIFY, DELETE = 0x100, 2, 0x200


def prepare():
    os.mkdir("/tmp/watched")
    open("/tmp/file", "w").close()
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    dropped = [libc.inotify_add_watch(descriptor, path, CREATE) for path in (b"/tmp", b"/etc")]
    for number in dropped:
        libc.inotify_rm_watch(descriptor, number)
    events(descriptor)
    folder = libc.inotify_add_watch(descriptor, b"/tmp/watched", CREATE | DELETE)
    etc = libc.inotify_add_watch(descriptor, b"/etc/hosts", MODIFY)
    file = libc.inotify_add_watch(descriptor, b"/tmp/file", MODIFY)
    return descriptor, [folder, etc, file]


def events(descriptor):
    try:
        data = os.read(descriptor, 65536)
    except BlockingIOError:
        return []
    found = []
    while data:
        number, mask, _, length = struct.unpack_from("=iIII", data)
        found.append([number, mask, data[16 : 16 + length].rstrip(b"\0").decode()])
        data = data[16 + length :]
    return found


def check(state):
    descriptor, numbers = state
    silent = events(descriptor)
    open("/tmp/watched/new", "w").close()
    with open("/tmp/file", "w") as file:
        file.write("changed")
    return [numbers, silent, events(descriptor), libc.inotify_add_watch(descriptor, b"/tmp", DELETE)]
