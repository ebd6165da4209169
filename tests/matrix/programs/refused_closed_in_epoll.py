"""An epoll set that watches a descriptor which is closed while a copy of it is open."""

import os
import select


def prepare():
    reader, _ = os.pipe()
    os.dup2(reader, 41)
    with select.epoll() as epoll:
        epoll.register(41, select.EPOLLIN)
        os.dup2(epoll.fileno(), 40)
    os.close(41)
