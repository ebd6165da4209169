"""Connected TCP sockets, IPv4 and IPv6, have been reset by their peer: ECONNRESET, then EPIPE."""

import errno
import select
import socket


def prepare():
    ends = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        listener = socket.socket(family)
        listener.bind((address, 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname()[:2])
        accepted, _ = listener.accept()
        client.sendall(b"hello")
        accepted.settimeout(5)
        ends += [client, accepted]
        listener.close()
    fresh = socket.socket()
    fresh.bind(("127.0.0.1", 0))
    return ends, fresh, fresh.getsockname()


def outcome(call, *arguments):
    try:
        return str(call(*arguments))
    except OSError as error:
        return errno.errorcode[error.errno]


def check(state):
    ends, fresh, name = state
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    ready = [bool(events & select.POLLHUP) for _, events in poll.poll(5000)]
    outcomes = [[outcome(end.recv, 10), outcome(end.send, b"x")] for end in ends]
    fresh.listen()
    client = socket.create_connection(name)
    client.sendall(b"fresh")
    return [ready, outcomes, fresh.accept()[0].recv(10).decode()]
