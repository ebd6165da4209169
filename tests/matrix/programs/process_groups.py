"""Sessions, process groups, and a process whose parent has ended."""

import os
import signal
import socket


def _fork(work, *arguments):
    pid = os.fork()
    if not pid:
        try:
            work(*arguments)
        finally:
            os._exit(0)
    return pid


def _answer(end):
    """Says where it is, each time it is asked."""
    while end.recv(10):
        end.send(f"{os.getpid()} {os.getppid()} {os.getpgid(0)} {os.getsid(0)}".encode())


def _session(end, inner):
    early = _fork(_answer, inner[0])  # born before there is a session
    os.setsid()
    late = _fork(_answer, inner[1])
    end.send(f"{early} {late}".encode())
    _answer(end)


def _orphan(end):
    _fork(_answer, end)


def _pairs(count):
    return [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]


def prepare():
    pairs = _pairs(6)
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    leader = _fork(_session, theirs[0], theirs[1:3])
    early, late = (int(word) for word in ours[0].recv(100).split())
    group = _fork(_answer, theirs[3])
    os.setpgid(group, group)
    member = _fork(_answer, theirs[4])
    os.setpgid(member, group)
    os.waitpid(_fork(_orphan, theirs[5]), 0)
    for end in theirs:
        end.close()
    return ours, [leader, early, late, group, member]


def check(state):
    ends, (leader, early, late, group, member) = state
    places = []
    for end in ends:
        end.send(b"where")
        places.append([int(word) for word in end.recv(100).split()])
    own = [os.getpgid(0), os.getsid(0)]
    orphan = places.pop()
    os.killpg(group, signal.SIGTERM)
    ended = sorted(os.waitpid(pid, 0)[1] for pid in (group, member))
    return [
        places[0] == [leader, os.getpid(), leader, leader],
        places[1] == [early, leader, *own],
        places[2] == [late, leader, leader, leader],
        places[3] == [group, os.getpid(), group, own[1]],
        places[4] == [member, os.getpid(), group, own[1]],
        orphan[1:] == [1, *own],
        ended,
    ]
