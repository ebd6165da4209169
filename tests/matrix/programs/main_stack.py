"""The main thread's stack grows by itself, far below where it ended when the snapshot was taken."""

import ctypes

probe = ctypes.CDLL("/opt/libprobe.so")


def stack_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmStk:"))


def prepare():
    return probe.descend(10), stack_kib()


def check(state):
    shallow, before = state
    return [shallow, probe.descend(1500), before < 2000, stack_kib() > 6000]
