"""threading.Timer and waits with a time-out that began before the snapshot end after it."""

import queue
import threading
import time


def prepare():
    fired = threading.Event()
    timer = threading.Timer(0.5, fired.set)
    timer.start()
    never = threading.Event()
    ended = queue.Queue()
    threading.Thread(target=lambda: ended.put(never.wait(0.5)), daemon=True).start()
    condition = threading.Condition()
    time.sleep(0.1)
    return fired, ended, condition


def check(state):
    fired, ended, condition = state
    early = fired.is_set()
    with condition:
        timed_out = not condition.wait(0.05)
    return [early, fired.wait(10), ended.get(timeout=10), timed_out]
