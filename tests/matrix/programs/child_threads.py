"""A child process with threads of its own, in different waits; and a child of that child."""

import multiprocessing
import os
import threading
import time

_context = multiprocessing.get_context("fork")


def grandchild(connection):
    while (word := connection.recv()) is not None:
        connection.send([word.upper(), os.getppid()])


def child(connection):
    near, far = _context.Pipe()
    below = _context.Process(target=grandchild, args=(far,))
    below.start()
    go, lock = threading.Event(), threading.Lock()
    done = []

    def wait(name):
        if name == "sleeper":
            time.sleep(0.05)
        go.wait()
        with lock:
            done.append(name)

    threads = [threading.Thread(target=wait, args=(name,), name=name) for name in ("a", "b", "sleeper")]
    for thread in threads:
        thread.start()
    numbers = sorted(thread.native_id for thread in threads)
    connection.send("ready")
    connection.recv()
    same = numbers == sorted(thread.native_id for thread in threads)
    go.set()
    for thread in threads:
        thread.join()
    near.send("word")
    answer = near.recv()
    near.send(None)
    below.join()
    connection.send([sorted(done), same, answer[0], answer[1] == os.getpid(), below.exitcode])


def prepare():
    near, far = _context.Pipe()
    process = _context.Process(target=child, args=(far,))
    process.start()
    assert near.recv() == "ready"
    return near, process


def check(state):
    near, process = state
    near.send("go")
    found = near.recv()
    process.join()
    return [*found, process.exitcode]
