"""Files in /tmp, mapped: a shared mapping writes to the clone's own file, a private one only to memory."""

import mmap
import os
import time


def prepare():
    views = []
    for name, flags in (("shared", mmap.MAP_SHARED), ("private", mmap.MAP_PRIVATE)):
        with open(f"/tmp/{name}", "w+b") as file:
            file.write(b"." * 20_000)
            file.flush()
            views.append(mmap.mmap(file.fileno(), 20_000, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE))
        views[-1][5000:5003] = b"one"
    return views


def check(views):
    shared, private = views
    own = os.urandom(8)
    shared[6000:6008] = own
    private[6000:6003] = b"two"
    time.sleep(0.05)
    with open("/tmp/shared", "rb") as file:
        content = file.read()
    with open("/tmp/private", "rb") as file:
        untouched = file.read() == b"." * 20_000
    return [
        content[5000:5003].decode(), content[6000:6008] == own, len(content), untouched,
        bytes(private[5000:5003]).decode(), bytes(private[6000:6003]).decode(), bytes(private[19_990:]).decode(),
    ]  # fmt: skip
