"""A route netlink socket keeps its number and groups, and answers requests."""

import socket
import struct

RTM_GETLINK, DUMP = 18, 0x301


def prepare():
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    link.bind((0, 1))
    link.settimeout(5)
    return link, link.getsockname()


def check(state):
    link, name = state
    link.send(struct.pack("=IHHIIBBHiII", 32, RTM_GETLINK, DUMP, 1, 0, 0, 0, 0, 0, 0, 0))
    return [link.getsockname() == name, b"lo\0" in link.recv(65536), name[1]]
