"""Connected Unix stream sockets: unread data both ways, a shut direction, an end whose peer is closed, time-outs."""

import socket


def prepare():
    left, right = socket.socketpair()
    left.sendall(b"to the right")
    right.sendall(b"to the left")
    left.settimeout(0.2)
    half, other = socket.socketpair()
    half.sendall(b"before the end")
    half.shutdown(socket.SHUT_WR)
    lonely, gone = socket.socketpair()
    gone.sendall(b"farewell")
    gone.close()
    return left, right, half, other, lonely


def check(state):
    left, right, half, other, lonely = state
    crossed = [left.recv(100).decode(), right.recv(100).decode()]
    try:
        left.recv(1)
        crossed.append("data")
    except TimeoutError:
        crossed.append("time-out")
    other.sendall(b"still open this way")
    shut = [other.recv(100).decode(), other.recv(100).decode(), half.recv(100).decode()]
    ended = [lonely.recv(100).decode(), lonely.recv(100).decode()]
    try:
        lonely.sendall(b"x")
    except BrokenPipeError:
        ended.append("EPIPE")
    return [crossed, shut, ended]
