"""The disk image: what the function left in /tmp, as a tar archive (POSIX.1-2001 pax)."""

from __future__ import annotations

import io
import os
import stat
import tarfile

from thaw.errors import NotFreezable
from thaw.snapshot.users import Owners

_LIMIT = 512 * 1024 * 1024
"""Bytes; SnapStart takes ephemeral storage up to 512 MB (Lambda developer guide, SnapStart limitations)."""


def pack_folder(root: str, owners: Owners) -> bytes:
    """All files below a folder, with their owners as the function sees them; empty where there is none.

    Sockets are left out: the descriptor that listens on one makes it again.

    Raises:
        NotFreezable: the files are larger than a snapshot may hold.
    """
    entries = sorted(os.path.join(folder, name) for folder, folders, files in os.walk(root) for name in folders + files)
    entries = [path for path in entries if not stat.S_ISSOCK(os.lstat(path).st_mode)]
    if not entries:
        return b""
    size = sum(os.lstat(path).st_blocks * 512 for path in entries)
    if size > _LIMIT:
        raise NotFreezable(
            f"The function left {size >> 20} MiB in /tmp, more than the 512 MiB that a snapshot may hold: "
            "remove files in a before-snapshot hook."
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in entries:
            archive.add(path, arcname=os.path.relpath(path, root), recursive=False, filter=owners.rename)
    return buffer.getvalue()
