"""Who the process is: command line, executable, title, user, capabilities, filter; /proc says the same as before."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
FIELDS = ("Name", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


def read(name, mode="r"):
    with open(f"/proc/self/{name}", mode) as file:
        return file.read()


def status():
    lines = dict(line.split(":\t", 1) for line in read("status").splitlines() if ":\t" in line)
    return {name: lines[name] for name in FIELDS}


def description():
    files = [read(name) for name in ("cmdline", "comm", "environ")] + [read("auxv", "rb").hex()]
    return [*files, os.readlink("/proc/self/exe"), os.readlink("/proc/self/root"), status()]


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
    return [after == before, after[1], after[6]["CapBnd"], after[6]["NoNewPrivs"], after[6]["Seccomp"], root]
