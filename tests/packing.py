"""Deployment packages for tests."""

from __future__ import annotations

import io
import stat
import zipfile

Entries = dict[str, bytes | tuple[int, bytes]]


def package(entries: Entries) -> bytes:
    """A zip of `entries`; a value is the content, or (st_mode, content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in entries.items():
            info = zipfile.ZipInfo(name, (2024, 2, 29, 12, 30, 44))
            mode, content = value if isinstance(value, tuple) else (stat.S_IFREG | 0o644, value)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
