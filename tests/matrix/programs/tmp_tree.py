"""What lies in /tmp: files, folders, links, a FIFO, modes, owner, times; the function may change all of it."""

import os
import stat

CHANGED = 1_234_567_890_123_456_789


def prepare():
    os.makedirs("/tmp/a/b")
    with open("/tmp/a/b/file", "wb") as file:
        file.write(bytes(range(256)) * 100)
    os.chmod("/tmp/a/b/file", 0o4640)
    os.chmod("/tmp/a", 0o700)
    os.symlink("b/file", "/tmp/a/soft")
    os.link("/tmp/a/b/file", "/tmp/a/hard")
    os.mkfifo("/tmp/a/fifo", 0o600)
    os.utime("/tmp/a/b/file", ns=(1_000_000_000, CHANGED))
    open("/tmp/ümlaut name", "w").close()


def check(_):
    found = {}
    for folder, folders, files in os.walk("/tmp"):
        for name in folders + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            own = (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())
            found[path] = [oct(status.st_mode), status.st_nlink if stat.S_ISREG(status.st_mode) else 0, own]
    with open("/tmp/a/hard", "rb") as file:
        content = file.read() == bytes(range(256)) * 100
    late = abs(os.stat("/tmp/a/soft").st_mtime_ns - CHANGED) < 1000  # the archive holds a decimal fraction
    os.unlink("/tmp/a/b/file")
    os.rename("/tmp/a", "/tmp/z")
    return [found, content, late, os.readlink("/tmp/z/soft"), oct(os.stat("/tmp").st_mode)]
