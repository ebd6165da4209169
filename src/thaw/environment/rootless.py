"""A server of an ordinary user: root of a user namespace of its own, as far as the kernel lets it.

In there it may make mounts and namespaces, but it owns no control groups and no link of the machine, and only one user
number is mapped: the user's own, as 0. Functions run as that one, too, without any capability, behind the same seccomp
filter and with the same files; only what keeps sandboxes apart from each other by user number is missing.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from thaw.environment.users import FUNCTION_UID
from thaw.errors import ConfigurationError

_CLONE_NEWUSER, _CLONE_NEWNS = 0x10000000, 0x00020000

NO_SNAPSHOTS = (
    "Snapshots need root: this server runs as an ordinary user, so the version has none and every environment of it "
    "starts afresh."
)
WARNINGS = (
    "Thaw runs as an ordinary user: functions have no limits of memory and processor time, are not stopped between "
    "calls, and have no snapshots; run it as root for all of that.",
)


def enter() -> None:
    """Become root of a new user namespace; only for a process that has one thread.

    Raises ConfigurationError where the kernel permits none.
    """
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNS) < 0:
        reason = os.strerror(ctypes.get_errno())
        raise ConfigurationError(
            f"Thaw was started by an ordinary user, and this machine permits no user namespaces ({reason}): start it "
            "as root, or permit them (user.max_user_namespaces, kernel.unprivileged_userns_clone, AppArmor)."
        )
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1\n")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1\n")
    except OSError as error:
        raise ConfigurationError(
            f"Thaw was started by an ordinary user, and its user namespace cannot be set up ({error}): start it as "
            "root."
        ) from error


@cache
def is_rootless() -> bool:
    """Whether the user number of functions is not to be had here."""
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = map(int, line.split())
        if first <= FUNCTION_UID < first + count:
            return False
    return True
