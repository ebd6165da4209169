"""rseq: the kernel keeps writing the processor into glibc's area, in the main thread and in others."""

import ctypes
import os
import queue
import threading

probe = ctypes.CDLL("/opt/libprobe.so")
libc = ctypes.CDLL(None)
requests, answers = queue.Queue(), queue.Queue()


def serve():
    while requests.get():
        answers.put(measure())


def measure():
    wanted = sorted(os.sched_getaffinity(0))
    found = []
    for processor in (wanted[0], wanted[-1]):
        os.sched_setaffinity(0, [processor])
        found.append(libc.sched_getcpu() == probe.rseq_processor() == processor)
    os.sched_setaffinity(0, wanted)
    return found


def prepare():
    threading.Thread(target=serve, daemon=True).start()
    return measure()


def check(before):
    requests.put(True)
    return [before, measure(), answers.get(timeout=5)]
