"""UDP sockets, bound and connected, IPv4 and IPv6, with options and a buffer size."""

import socket


def prepare():
    pairs = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server, client = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        server.bind((address, 0))
        client.connect(server.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)
        server.settimeout(5)
        pairs.append((server, client, client.getsockname(), server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)))
    return pairs


def talk(server, client, name, size):
    client.send(b"hello")
    data, sender = server.recvfrom(100)
    server.sendto(b"back", sender)
    return [
        data.decode(), client.recv(100).decode(), sender == name,
        client.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST),
        server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == size,
    ]  # fmt: skip


def check(pairs):
    return [talk(*each) for each in pairs]
