"""The disk image goes back into /tmp."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from thaw.errors import RestoreFailed

# The archive is authenticated and was written by us, so owners, links and modes come back as they were. Python before
# 3.11.4 has no filters, and does so by itself.
_TRUSTED: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}


def unpack_folder(disk: bytes, root: Path | str, owners: Mapping[int, int] = MappingProxyType({})) -> None:
    """Unpack an archive of `snapshot.disk` below a folder, owners and times included. `owners` says which numbers of
    users and groups are others on this machine.

    Raises:
        RestoreFailed: it does not fit, or is not an archive of ours.
    """
    if not disk:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(disk), mode="r:") as archive:
            for entry in archive.getmembers():
                entry.uid, entry.gid = owners.get(entry.uid, entry.uid), owners.get(entry.gid, entry.gid)
            archive.extractall(root, numeric_owner=True, **_TRUSTED)
    except (OSError, tarfile.TarError) as error:
        raise RestoreFailed(
            f"The snapshot's /tmp could not be unpacked ({error}): give the function more ephemeral storage.",
            step="/tmp",
        ) from error
