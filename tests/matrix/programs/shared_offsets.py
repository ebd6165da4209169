"""Duplicated descriptors share one offset and one set of flags; separately opened ones do not."""

import os


def prepare():
    with open("/tmp/data", "w") as file:
        file.write("abcdefghij")
    first = os.open("/tmp/data", os.O_RDONLY)
    os.lseek(first, 2, os.SEEK_SET)
    second = os.dup(first)
    os.dup2(first, 77)
    third = os.open("/tmp/data", os.O_RDONLY)
    os.lseek(third, 5, os.SEEK_SET)
    return first, second, 77, third


def check(state):
    return ["".join(os.read(each, 1).decode() for each in state), [os.lseek(each, 0, os.SEEK_CUR) for each in state]]
