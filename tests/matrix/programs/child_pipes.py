"""A child process that was started before the snapshot and answers through its pipes afterwards."""

import os
import signal
import subprocess
import sys

CHILD = """
import os, sys
heard = []
for line in sys.stdin:
    heard.append(line.strip())
    if line == "end\\n":
        sys.exit(7)
    print(os.getpid(), os.getppid(), os.getpgid(0), len(heard), heard[0], os.getcwd(), flush=True)
"""


def prepare():
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd="/tmp"
    )
    child.stdin.write("first\n")
    answer = child.stdout.readline().split()
    child.stdin.write("early\n")  # its answer waits in the pipe
    ended = subprocess.Popen(["sh", "-c", "exit 5"])
    killed = subprocess.Popen(["sleep", "1000"])
    killed.kill()
    for each in (ended, killed):
        os.waitid(os.P_PID, each.pid, os.WEXITED | os.WNOWAIT)
    return child, answer, ended, killed


def check(state):
    child, answer, ended, killed = state
    early = child.stdout.readline().split()
    child.stdin.write("late\n")
    late = child.stdout.readline().split()
    running = child.poll()
    child.stdin.write("end\n")
    child.stdin.close()
    rest = child.stdout.read()
    return [
        [int(answer[0]), int(answer[1])] == [child.pid, os.getpid()],
        early[:2] == answer[:2] and late[:2] == answer[:2],
        [early[3:], late[3:]],
        int(late[2]) == os.getpgid(0),
        running,
        rest,
        child.wait(),
        ended.wait(),
        killed.wait() == -signal.SIGKILL,
        signal.SIGCHLD in signal.sigpending(),
    ]
