"""Detached mounts: made here, by the server, and attached inside a sandbox by its PID 1.

A detached mount belongs to no path. It lives as long as its descriptor, so nothing is ever left on the
machine, and it crosses mount namespaces by being passed over the control socket.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from thaw.environment.system_call import FSCONFIG, FSMOUNT, FSOPEN, MOUNT_SETATTR, MOVE_MOUNT, OPEN_TREE, system_call

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 4

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
_ATTR_IDMAP = 0x0010_0000
# mount_setattr(2): the file system cannot be mapped, or is mapped already.
_NO_IDMAP = (errno.EINVAL, errno.EPERM)


def read_only_tree(source: Path, users: int = -1) -> int:
    """A read-only, nosuid, nodev copy of the mounts at `source` (a folder or a file); returns its descriptor.

    `users` is a user namespace: what belongs to user n there appears as the machine's user that n is mapped to, where
    the file system can do that, and otherwise as it is.

    Raises OSError, for example when `source` does not exist.
    """
    copied = tree(source)
    try:
        set_attributes(copied, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, recursive=True)
        if users >= 0:
            _show_owners(copied, users)
    except OSError:
        os.close(copied)
        raise
    return copied


def _show_owners(copied: int, users: int) -> None:
    try:
        set_attributes(copied, _ATTR_IDMAP, recursive=True, users=users)
    except OSError as error:
        if error.errno not in _NO_IDMAP:
            raise


def tree(source: Path) -> int:
    """A copy of the mounts at `source`, as they are; returns its descriptor. Raises OSError."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    return system_call(OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags)


def memory_filesystem(size_mib: int, mode: int, attributes: int = ATTR_NOSUID | ATTR_NODEV, *, owner: int = 0) -> int:
    """A new tmpfs of `size_mib` whose root has `mode` and `owner`; returns the mount's descriptor.

    Its pages are charged to the memory group of whoever writes them. Raises OSError.
    """
    context = system_call(FSOPEN, b"tmpfs", _FSOPEN_CLOEXEC)
    try:
        settings = {b"size": b"%dm" % size_mib, b"mode": b"%o" % mode}
        if owner:
            settings[b"uid"] = settings[b"gid"] = b"%d" % owner
        for key, value in settings.items():
            system_call(FSCONFIG, context, _FSCONFIG_SET_STRING, key, value, 0)
        system_call(FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return system_call(FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def set_attributes(tree: int, attributes: int, *, recursive: bool = False, users: int = 0) -> None:
    """Add `attributes` (ATTR_*) to the mount at descriptor `tree`, and to those below it when `recursive`."""
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    wanted = struct.pack("=QQQQ", attributes, 0, 0, users)
    system_call(MOUNT_SETATTR, tree, b"", flags, wanted, len(wanted))


def attach(tree: int, folder: int, path: str) -> None:
    """Attach the detached mount `tree` at `path`, relative to the folder descriptor `folder`."""
    system_call(MOVE_MOUNT, tree, b"", folder, path.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
