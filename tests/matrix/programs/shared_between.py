"""Memory, semaphores, a memfd, a socket pair and a file's position that several processes share."""

import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import socket

_context = multiprocessing.get_context("fork")


def child(memory, counter, gate, done, pair, memfd, file, named):
    while True:
        gate.acquire()
        word = memory[:5]
        memory[8:13] = word[::-1]
        with counter.get_lock():
            counter.value += 1
        os.pwrite(memfd, b"child", 0)
        piece = os.read(file, 3)
        named.buf[1] = named.buf[0] + 1
        pair.send(word + piece)
        done.release()


def prepare():
    memory = mmap.mmap(-1, 8192)
    counter, gate, done = _context.Value("i", 40), _context.Semaphore(0), _context.Semaphore(0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    memfd = os.memfd_create("between")
    os.write(memfd, b"original")
    with open("/tmp/between", "w") as file:
        file.write("abcdefghi")
    file = os.open("/tmp/between", os.O_RDONLY)
    named = multiprocessing.shared_memory.SharedMemory(create=True, size=100)
    arguments = (memory, counter, gate, done, theirs, memfd, file, named)
    process = _context.Process(target=child, args=arguments, daemon=True)
    process.start()
    theirs.close()
    memory[:5] = b"first"
    gate.release()
    done.acquire()
    named.buf[0] = 20
    return memory, counter, gate, done, ours, memfd, file, named, process


def check(state):
    memory, counter, gate, done, ours, memfd, file, named, process = state
    waiting = ours.recv(100)
    frozen = bytes(memory[8:13])
    memory[:5] = b"again"
    gate.release()
    done.acquire()
    found = [
        waiting.decode(), frozen.decode(), bytes(memory[8:13]).decode(), counter.value, ours.recv(100).decode(),
        os.read(file, 3).decode(), os.pread(memfd, 8, 0).decode(), named.buf[1], gate.acquire(block=False),
    ]  # fmt: skip
    process.terminate()
    process.join()
    named.unlink()
    return [*found, process.exitcode]
