"""A child process in a group whose leader has ended."""

import subprocess


def prepare():
    leader = subprocess.Popen(["sleep", "1000"], process_group=0)
    member = subprocess.Popen(["sleep", "1000"], process_group=leader.pid)
    leader.kill()
    leader.wait()
    return member
