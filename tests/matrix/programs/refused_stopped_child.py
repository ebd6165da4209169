"""A child process that a signal has stopped."""

import os
import signal
import subprocess


def prepare():
    child = subprocess.Popen(["sleep", "1000"])
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    return child
