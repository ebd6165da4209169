"""A child process that lives."""

import subprocess


def prepare():
    return subprocess.Popen(["sleep", "1000"])
