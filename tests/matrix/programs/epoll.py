"""An epoll set: several descriptors, events, user data, one-shot, and a set inside a set."""

import ctypes
import os
import select

libc = ctypes.CDLL(None, use_errno=True)
ADD = 1


class Event(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


def add(epoll, descriptor, events, data):
    libc.epoll_ctl(epoll, ADD, descriptor, ctypes.byref(Event(events, data)))


def ready(epoll):
    found = (Event * 8)()
    count = libc.epoll_wait(epoll, found, 8, 0)
    return sorted([found[index].events, hex(found[index].data)] for index in range(count))


def prepare():
    epoll, outer = libc.epoll_create1(0), libc.epoll_create1(0x80000)
    pipes = [os.pipe() for _ in range(3)]
    os.write(pipes[0][1], b"waiting")
    add(epoll, pipes[0][0], select.EPOLLIN, 0xDEADBEEFCAFEF00D)
    add(epoll, pipes[1][0], select.EPOLLIN | select.EPOLLONESHOT, 2)
    add(epoll, pipes[2][1], select.EPOLLOUT | select.EPOLLET, 3)
    add(outer, epoll, select.EPOLLIN, 4)
    return epoll, outer, pipes


def check(state):
    epoll, outer, pipes = state
    nested, first = ready(outer), ready(epoll)
    os.write(pipes[1][1], b"x")
    second, third = ready(epoll), ready(epoll)
    os.read(pipes[0][0], 100)
    return [nested, first, second, third, ready(epoll), os.get_inheritable(outer)]
