"""Devices without state, folders, files of /proc, and a handle that is only a path (O_PATH)."""

import os


def prepare():
    names = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/full", "/tmp", "/proc/self/status", "/etc/hosts")
    opened = {name: os.open(name, os.O_RDONLY) for name in names}
    os.mkdir("/tmp/inner")
    opened["path"] = os.open("/tmp/inner", os.O_PATH)
    os.read(opened["/etc/hosts"], 4)
    opened["own"] = os.open(f"/proc/{os.getpid()}/comm", os.O_RDONLY)
    return opened


def check(opened):
    inner = os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=opened["path"])
    os.close(inner)
    status = dict(line.split(":\t", 1) for line in os.read(opened["/proc/self/status"], 65536).decode().splitlines())
    return [
        os.read(opened["/dev/null"], 4).decode(), os.read(opened["/dev/zero"], 4).hex(),
        len(os.read(opened["/dev/urandom"], 16)), os.listdir(opened["/tmp"]), os.listdir("/tmp/inner"),
        int(status["Pid"]) == os.getpid(), os.read(opened["/etc/hosts"], 5).decode(),
        os.read(opened["own"], 100).decode().strip() == open("/proc/self/comm").read().strip(),
    ]  # fmt: skip
