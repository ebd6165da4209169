"""Unix datagram and seqpacket sockets: several messages keep their borders; a named server and its client."""

import os
import socket

MESSAGES = [b"one", b"two" * 1000, b"three"]


def prepare():
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)]
    for near, _ in pairs:
        for message in MESSAGES:
            near.send(message)
    pairs[0][0].send(b"")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("/tmp/inbox")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect("/tmp/inbox")
    client.send(b"early")
    return pairs, server, client


def check(state):
    pairs, server, client = state
    same = [[far.recv(10_000) == message for message in MESSAGES] for _, far in pairs]
    empty = pairs[0][1].recv(10).decode()
    pairs[1][1].send(b"back")
    client.send(b"late")
    other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    other.sendto(b"stranger", "/tmp/inbox")
    inbox = [server.recv(100).decode() for _ in range(3)]
    owner = os.stat("/tmp/inbox").st_uid == os.getuid()
    os.unlink("/tmp/inbox")
    return [same, empty, pairs[1][0].recv(10).decode(), inbox, server.getsockname(), owner]
