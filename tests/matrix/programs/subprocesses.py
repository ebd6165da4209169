"""Child processes after the restore: subprocess, posix_spawn, fork, multiprocessing; all are reaped."""

import multiprocessing
import os
import subprocess


def prepare():
    subprocess.run(["true"], check=True)
    return multiprocessing.get_context("fork")


def work(connection):
    connection.send(os.getppid())


def check(context):
    shell = subprocess.run(["sh", "-c", "echo $PPID; exit 3"], capture_output=True, text=True)
    child = os.posix_spawn("/bin/true", ["true"], os.environ)
    _, status = os.waitpid(child, 0)
    near, far = context.Pipe()
    process = context.Process(target=work, args=(far,))
    process.start()
    parent = near.recv()
    process.join(5)
    try:
        os.waitpid(-1, os.WNOHANG)
        left = True
    except ChildProcessError:
        left = False
    return [
        shell.stdout.strip() == str(os.getpid()),
        shell.returncode,
        status,
        parent == os.getpid(),
        process.exitcode,
        left,
    ]
