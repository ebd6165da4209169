"""Sequenced packets keep their bounds on the way, in both directions, and a listener of that kind goes on."""

import socket


def prepare():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.send(b"one")
    left.send(b"two and more")
    right.send(b"back")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("\0packets")
    listener.listen()
    return left, right, listener


def check(state):
    left, right, listener = state
    found = [right.recv(99).decode(), right.recv(99).decode(), left.recv(99).decode()]
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect("\0packets")
    client.send(b"hello")
    accepted, _ = listener.accept()
    return [*found, accepted.recv(99).decode()]
