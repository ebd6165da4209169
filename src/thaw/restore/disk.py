"""The disk image goes back into /tmp."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from thaw.errors import RestoreFailed

# The archive is authenticated and was written by us, so owners, links and modes come back as they were. Python before
# 3.11.4 has no filters, and does so by itself.
_TRUSTED: Any = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}


def unpack_folder(disk: bytes, root: Path | str) -> None:
    """Unpack an archive of `snapshot.disk` below a folder, owners and times included.

    Raises:
        RestoreFailed: it does not fit, or is not an archive of ours.
    """
    if not disk:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(disk), mode="r:") as archive:
            archive.extractall(root, numeric_owner=True, **_TRUSTED)
    except (OSError, tarfile.TarError) as error:
        raise RestoreFailed(
            f"The snapshot's /tmp could not be unpacked ({error}): give the function more ephemeral storage.",
            step="/tmp",
        ) from error
