"""A child process with a handle of another one."""

import os
import subprocess


def prepare():
    handle = os.pidfd_open(os.getpid())
    os.dup2(handle, 40)
    os.close(handle)
    child = subprocess.Popen(["sleep", "1000"], pass_fds=(40,))
    os.close(40)
    return child
