"""The disk image goes back into /tmp."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from thaw.errors import RestoreFailed


def unpack_folder(disk: bytes, root: Path | str) -> None:
    """Unpack an archive of `snapshot.disk` below a folder, owners and times included.

    Raises:
        RestoreFailed: it does not fit, or is not an archive of ours.
    """
    if not disk:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(disk), mode="r:") as archive:
            # The archive is authenticated and was written by us; the `tar` filter still keeps everything below root.
            archive.extractall(root, numeric_owner=True, filter=_keep_owner)
    except (OSError, tarfile.TarError) as error:
        raise RestoreFailed(
            f"The snapshot's /tmp could not be unpacked ({error}): give the function more ephemeral storage.",
            step="/tmp",
        ) from error


def _keep_owner(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    return tarfile.fully_trusted_filter(member, path)
