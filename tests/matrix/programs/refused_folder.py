"""A working folder that was removed."""

import os


def prepare():
    os.mkdir("/tmp/removed")
    os.chdir("/tmp/removed")
    os.rmdir("/tmp/removed")
