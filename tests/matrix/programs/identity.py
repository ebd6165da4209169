"""Who the process is: command line, executable, title, user, capabilities, filter; /proc says the same as before."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
FIELDS = ("Name", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


def status():
    lines = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    return {name: lines[name] for name in FIELDS}


def description():
    return [
        open("/proc/self/cmdline").read(), os.readlink("/proc/self/exe"), open("/proc/self/comm").read(),
        open("/proc/self/environ").read(), open("/proc/self/auxv", "rb").read().hex(), os.readlink("/proc/self/root"), status(),
    ]  # fmt: skip


def prepare():
    libc.prctl(15, b"new-title")
    return description()


def check(before):
    after = description()
    try:
        os.setuid(0)
        root = True
    except PermissionError:
        root = False
    return [after == before, after[2], after[6]["CapBnd"], after[6]["NoNewPrivs"], after[6]["Seccomp"], root]
