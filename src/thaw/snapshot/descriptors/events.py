"""Descriptors that stand for events: eventfd, timerfd, signalfd, epoll, inotify."""

from __future__ import annotations

import os
import re
import struct
from typing import Final

from thaw.errors import NotFreezable
from thaw.snapshot.descriptors.context import Context, Place, refusal
from thaw.snapshot.descriptors.table import OpenFile, field_of
from thaw.snapshot.process import read_text

_EFD_SEMAPHORE: Final = 1
_TFD_IOC_SET_TICKS: Final = 0x40085400
_EPOLL_CTL_ADD: Final = 1
_IN_CREATE: Final = 0x100
_REPORT_SIZE: Final = 16  # struct inotify_event without a name
_TIME = re.compile(r"\((\d+), (\d+)\)")
_EPOLL_ENTRY = re.compile(r"^tfd:\s*(\d+) events:\s*([0-9a-f]+) data:\s*([0-9a-f]+)", re.MULTILINE)
_WATCH = re.compile(r"^inotify wd:([0-9a-f]+) ino:([0-9a-f]+) sdev:([0-9a-f]+) mask:([0-9a-f]+)", re.MULTILINE)


def plan_eventfd(context: Context, file: OpenFile) -> int:
    """The same counter (eventfd(2))."""
    count = int(field_of(file, "eventfd-count"), 16)
    semaphore = "eventfd-semaphore: 1" in file.information
    held = context.hold("eventfd2", min(count, 0xFFFF_FFFF), _EFD_SEMAPHORE if semaphore else 0)
    if count > 0xFFFF_FFFF:
        rest = context.plan.allocate(struct.pack("=Q", count - 0xFFFF_FFFF))
        context.enter.call("write", held, rest, 8, label="write to an eventfd")
    context.set_flags(held, file)
    return held


def _times(file: OpenFile, name: str) -> tuple[int, int]:
    found = _TIME.search(field_of(file, name))
    assert found is not None, file.information
    return int(found[1]), int(found[2])


def plan_timerfd(context: Context, file: OpenFile) -> int:
    """The time that was left, the interval, and the ticks nobody has read (timerfd_create(2)).

    They begin to count when the clone is about to be the function: one that is made ahead of its call has its
    descriptors long before. (Trees are not made ahead, and their first process makes what the others get.)
    """
    held = context.hold("timerfd_create", int(field_of(file, "clockid")), 0)
    program, number = context.enter, held
    if not context.is_tree:
        (place,) = context.places
        program, number = place.surrender, min(file.numbers_in(place.pid))
    value, interval = _times(file, "it_value"), _times(file, "it_interval")
    if value != (0, 0):
        setting = context.plan.allocate(struct.pack("=4q", *interval, *value))
        program.call("timerfd_settime", number, 0, setting, 0)
    ticks = int(field_of(file, "ticks"))
    if ticks:
        address = context.plan.allocate(struct.pack("=Q", ticks))
        program.call("ioctl", number, _TFD_IOC_SET_TICKS, address, label="TFD_IOC_SET_TICKS")
    context.set_flags(held, file)
    return held


def plan_signalfd(context: Context, file: OpenFile) -> int:
    """The same set of signals (signalfd(2))."""
    mask = struct.pack("=Q", int(field_of(file, "sigmask"), 16))
    held = context.hold("signalfd4", -1, context.plan.allocate(mask), len(mask), 0)
    context.set_flags(held, file)
    return held


def plan_epoll(context: Context, file: OpenFile) -> int:
    """An empty set; `plan_epoll_entries` fills it when all descriptors have their numbers."""
    return context.hold("epoll_create1", 0)


def plan_epoll_entries(context: Context, place: Place, file: OpenFile) -> None:
    """Register what was registered (epoll_ctl(2)).

    Raises:
        NotFreezable: a descriptor in the set was closed while a copy of it lives on.
    """
    for number, events, data in _EPOLL_ENTRY.findall(file.information):
        if context.table.holder(place.pid, int(number)) is None:
            raise NotFreezable(
                f"The epoll set of descriptor {file.first}{file.owner} watches descriptor {number}, which is closed "
                "while a copy of it is open, so it cannot be frozen: "
                "remove a descriptor from the set before closing it."
            )
        event = place.plan.allocate(struct.pack("=IQ", int(events, 16), int(data, 16)))
        label = f"epoll_ctl of descriptor {number}"
        place.enter.call("epoll_ctl", file.first, _EPOLL_CTL_ADD, int(number), event, label=label)


def _mount_points(pid: int, device: int) -> list[str]:
    """Where a device is mounted, as the process sees it; `device` as fdinfo encodes it (minor in the low 20 bits)."""
    wanted = f"{device >> 20}:{device & 0xFFFFF}"
    lines = (line.split() for line in read_text(f"/proc/{pid}/mountinfo").splitlines())
    return [fields[4] for fields in lines if fields[2] == wanted]


def _find(root: str, inode: int) -> str | None:
    """A path of the inode below `root`, in the same file system."""
    wanted = (os.lstat(root).st_dev, inode)
    for folder, folders, files in os.walk(root):
        for name in ("", *folders, *files):
            path = os.path.join(folder, name) if name else folder
            status = os.lstat(path)
            if (status.st_dev, status.st_ino) == wanted:
                return path
        # Elsewhere another file system is mounted, which may be large.
        folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == wanted[0]]
    return None


def _watched_path(context: Context, file: OpenFile, inode: int, device: int) -> str:
    prefix = f"/proc/{context.pid}/root"
    for mount in _mount_points(context.pid, device):
        found = _find(prefix + mount, inode)
        if found is not None:
            return found.removeprefix(prefix)
    raise refusal(file, "an inotify instance that watches a deleted file", "remove the watch in a before-snapshot hook")


def plan_inotify(context: Context, file: OpenFile) -> int:
    """The same watches under their old numbers (inotify(7)); the kernel counts up, so gaps are made and removed.

    Removing one is reported (IN_IGNORED): that report is read, so that the function never sees it.
    """
    held = context.hold("inotify_init1", 0)
    report = context.plan.allocate(bytes(_REPORT_SIZE))
    next_number = 1
    for match in sorted(_WATCH.findall(file.information), key=lambda match: int(match[0], 16)):
        number, inode, device, mask = (int(value, 16) for value in match)
        path = context.plan.text(_watched_path(context, file, inode, device))
        for gap in range(next_number, number):
            context.enter.call("inotify_add_watch", held, context.plan.text("/dev/full"), _IN_CREATE)
            context.enter.call("inotify_rm_watch", held, gap)
            context.enter.call("read", held, report, _REPORT_SIZE, label="read of an inotify report")
        context.enter.call("inotify_add_watch", held, path, mask, label=f"inotify_add_watch {number}")
        next_number = number + 1
    context.set_flags(held, file)
    return held
