"""A descriptor that was sent over a Unix socket and not received yet."""

import os
import socket


def prepare():
    sender, receiver = socket.socketpair()
    socket.send_fds(sender, [b"take it"], [1])
    os.dup2(receiver.fileno(), 40)
    os.dup2(sender.fileno(), 41)
    receiver.close()
    sender.close()
