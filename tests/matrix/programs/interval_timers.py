"""setitimer: the real timer fires with the time that was left, once an interval; the CPU timers count on."""

import signal
import time

fired = []


def prepare():
    signal.signal(signal.SIGALRM, lambda *_: fired.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.6, 0.1)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
    time.sleep(0.1)


def check(_):
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    early = len(fired)
    while len(fired) < 3:
        time.sleep(0.05)
    virtual, _ = signal.getitimer(signal.ITIMER_VIRTUAL)
    return [0 < left <= 0.5, round(interval, 1), early, 900 < virtual < 1001]
