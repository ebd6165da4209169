"""The close-on-exec flag of each descriptor, also of two that lead to the same open file; what a child inherits."""

import fcntl
import os
import subprocess


def prepare():
    kept = os.open("/tmp", os.O_RDONLY)
    os.set_inheritable(kept, True)
    closed = os.dup2(os.open("/dev/null", os.O_RDONLY), 49, inheritable=False)
    os.dup2(kept, 50, inheritable=False)
    os.dup2(kept, 51, inheritable=True)
    reader, writer = os.pipe()
    os.dup2(reader, 52, inheritable=True)
    return kept, closed, 50, 51, 52, reader, writer


def check(state):
    flags = [fcntl.fcntl(each, fcntl.F_GETFD) for each in state]
    listing = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout
    inherited = {int(name) for name in listing.split()}
    return [flags, [each in inherited for each in state]]
