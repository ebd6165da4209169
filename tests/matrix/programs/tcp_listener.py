"""TCP listeners, IPv4 and IPv6, accept again on their old ports; options are kept."""

import socket


def prepare():
    listeners = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((address, 0))
        listener.listen(7)
        listeners.append((listener, listener.getsockname()))
    return listeners


def talk(listener, name):
    client = socket.create_connection(name[:2])
    accepted, _ = listener.accept()
    client.sendall(b"hello")
    return accepted.recv(10).decode()


def options(listener):
    names = ((socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.IPPROTO_TCP, socket.TCP_NODELAY))
    return [bool(listener.getsockopt(*name)) for name in names]


def check(listeners):
    answers = [talk(*each) for each in listeners]
    same = [listener.getsockname() == name for listener, name in listeners]
    return [answers, same, [options(listener) for listener, _ in listeners]]
