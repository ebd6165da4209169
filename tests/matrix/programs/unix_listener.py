"""Unix listeners, by path (with its mode) and abstract, accept new connections."""

import os
import socket
import stat


def prepare():
    listeners = []
    for name in ("/tmp/listener", "\0abstract"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(name)
        listener.listen(3)
        listeners.append(listener)
    os.chmod("/tmp/listener", 0o700)
    return listeners


def talk(listener):
    client = socket.socket(socket.AF_UNIX)
    client.connect(listener.getsockname())
    accepted, _ = listener.accept()
    client.sendall(b"hello")
    return accepted.recv(10).decode()


def check(listeners):
    status = os.stat("/tmp/listener")
    names = [str(listener.getsockname()) for listener in listeners]
    return [[talk(each) for each in listeners], names, oct(stat.S_IMODE(status.st_mode)), status.st_uid == os.getuid()]
