"""The user namespace: its map, whose files and processes are whose, with threads and a child process."""

import errno
import os
import signal
import socket
import threading

ready, ours = threading.Event(), []


def numbers(path):
    return [os.stat(name).st_uid for name in path]


def status(path, name):
    with open(path) as file:
        return next(line.split()[1:] for line in file if line.startswith(name))


def child(connection):
    while connection.recv(1):
        connection.sendall(" ".join(status("/proc/self/status", "Uid:")).encode())
    os._exit(0)


def prepare():
    for name in ("/tmp/mine", "/tmp/folder/inner"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "w") as file:
            file.write("x")
    left, right = socket.socketpair()
    pid = os.fork()
    if not pid:
        left.close()
        child(right)
    right.close()
    threading.Thread(target=tell, daemon=True).start()
    return left, pid


def tell():
    ready.wait()
    ours.append(status("/proc/thread-self/status", "Uid:"))


def refused(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def check(state):
    connection, pid = state
    connection.sendall(b"?")
    told = connection.recv(100).decode().split()
    ready.set()
    while not ours:
        pass
    with open("/tmp/made", "w") as file:
        owner = os.fstat(file.fileno()).st_uid
    with open("/proc/self/uid_map") as file:
        lines = [line.split() for line in file]
    inside = [word for first, _, count in lines for word in (first, count)]
    os.kill(pid, signal.SIGTERM)
    return [
        inside,
        [int(number) for number in ours[0]],
        [*numbers(["/tmp/mine", "/tmp"]), *numbers(["/proc/self"])],
        numbers(["/", "/usr", "/var/task"]),
        owner,
        told,
        refused(lambda: os.setuid(0)),
        os.waitpid(pid, 0)[1] == 15,
    ]
