"""Limits, file mode mask, folder, niceness, environment, time zone."""

import os
import resource
import time


def prepare():
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 1000))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 21))
    os.umask(0o027)
    os.mkdir("/tmp/work")
    os.chdir("/tmp/work")
    os.nice(19)  # the highest, wherever the tests themselves began
    os.environ["SECRET"] = "42"
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def check(_):
    names = ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_FSIZE")
    open("made", "w").close()
    return [
        [list(resource.getrlimit(getattr(resource, name))) for name in names], os.getcwd(), os.nice(0),
        os.environ["SECRET"], time.localtime(0).tm_hour, oct(os.stat("/tmp/work/made").st_mode),
    ]  # fmt: skip
