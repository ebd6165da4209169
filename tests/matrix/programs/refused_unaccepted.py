"""A Unix listener with a connection that nobody has accepted yet: neither end would find the other."""

import os
import socket


def prepare():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0unaccepted")
    listener.listen()
    os.dup2(listener.fileno(), 40)
    listener.close()
    client = socket.socket(socket.AF_UNIX)
    client.connect("\0unaccepted")
    return client
