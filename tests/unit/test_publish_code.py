"""Deployment packages: what is unpacked, what is refused, and that refusing leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from packing import Entries, package
from thaw.errors import ServiceError
from thaw.publish.code import NOT_A_ZIP, CodeFolders, code_key, unpack


def refusal(content: bytes, folder: Path, **limits: int) -> str:
    with pytest.raises(ServiceError) as caught:
        unpack(content, folder, **limits)
    assert caught.value.code == "InvalidParameterValueException"
    assert not folder.exists()
    return caught.value.message


def test_files_folders_modes_and_times_come_out_as_packed(tmp_path: Path) -> None:
    content = package(
        {
            "app.py": b"x = 1\n",
            "bin/tool": (stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
            "private.py": (stat.S_IFREG | 0o600, b""),
            "empty/": (stat.S_IFDIR | 0o700, b""),
            "dos.txt": (0, b"made on a system without modes"),
        }
    )
    folder = tmp_path / "code"
    unpack(content, folder)
    assert (folder / "app.py").read_bytes() == b"x = 1\n"
    assert (folder / "app.py").stat().st_mtime == 1709209844
    assert stat.S_IMODE((folder / "bin/tool").stat().st_mode) == 0o555
    assert stat.S_IMODE((folder / "private.py").stat().st_mode) == 0o444
    assert stat.S_IMODE((folder / "empty").stat().st_mode) & 0o555 == 0o555
    assert stat.S_IMODE((folder / "dos.txt").stat().st_mode) == 0o444
    assert not list(folder.rglob("*.pyc"))


def test_set_user_id_is_dropped(tmp_path: Path) -> None:
    unpack(package({"tool": (stat.S_IFREG | 0o6755, b"")}), tmp_path / "code")
    assert stat.S_IMODE((tmp_path / "code/tool").stat().st_mode) == 0o555


def test_a_link_inside_the_package_is_kept(tmp_path: Path) -> None:
    content = package({"lib/real.py": b"y = 2\n", "lib/alias.py": (stat.S_IFLNK | 0o777, b"real.py")})
    unpack(content, tmp_path / "code")
    assert (tmp_path / "code/lib/alias.py").is_symlink()
    assert (tmp_path / "code/lib/alias.py").read_bytes() == b"y = 2\n"


@pytest.mark.parametrize(
    "entries",
    [
        {"/etc/cron.d/x": b""},
        {"../x": b""},
        {"a/../../x": b""},
        {"..\\x": b""},
        {"c:/x": b""},
        {"a\nb": b""},
        {"out": (stat.S_IFLNK | 0o777, b"/etc/passwd")},
        {"out": (stat.S_IFLNK | 0o777, b"../../x")},
        {"here": (stat.S_IFLNK | 0o777, b"."), "out": (stat.S_IFLNK | 0o777, b"here/..")},
        {"d": (stat.S_IFLNK | 0o777, b"."), "d/x": b""},
        {"fifo": (stat.S_IFIFO | 0o644, b"")},
        {"device": (stat.S_IFBLK | 0o644, b"")},
        {"file": b"", "file/below": b""},
    ],
    ids=lambda entries: "+".join(entries) if isinstance(entries, dict) else None,
)
def test_entries_that_lead_out_or_are_no_files_are_refused(entries: Entries, tmp_path: Path) -> None:
    assert refusal(package(entries), tmp_path / "code") == NOT_A_ZIP
    assert list(tmp_path.iterdir()) == []


def _flip_in_data(content: bytes) -> bytes:
    at = content.index(b"app.py") + 20
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"PK", lambda _: b"not a zip at all", lambda content: content[:-30], _flip_in_data],
    ids=["nothing", "magic only", "text", "truncated", "flipped byte"],
)
def test_a_malformed_zip_is_refused_with_lambdas_text(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = package({"app.py": os.urandom(5000)})
    assert refusal(damage(content), tmp_path / "code") == NOT_A_ZIP


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    assert refusal(package({}), tmp_path / "code") == "Uploaded file must be a non-empty zip"


def test_the_unpacked_size_is_limited_whatever_the_directory_says(tmp_path: Path) -> None:
    content = package({"zeros": bytes(2_000_000)})
    assert len(content) < 10_000
    assert refusal(content, tmp_path / "code", limit=1_999_999) == "Unzipped size must be smaller than 1999999 bytes"
    unpack(content, tmp_path / "code", limit=2_000_000)


async def test_one_content_is_unpacked_once_and_read_again_when_the_folder_is_gone(tmp_path: Path) -> None:
    content = package({"app.py": b"x = 1\n"})
    reads = []

    async def read(key: str) -> bytes:
        reads.append(key)
        return content

    folders = CodeFolders(tmp_path / "code", read)
    folders.prepare()
    first, second = await asyncio.gather(folders.add(content), folders.add(content))
    assert first == second == tmp_path / "code" / code_key(content)
    assert reads == []
    await folders.remove(code_key(content))
    assert list((tmp_path / "code").iterdir()) == []
    again = await asyncio.gather(*(folders.folder(code_key(content)) for _ in range(5)))
    assert reads == [code_key(content)]
    assert (again[0] / "app.py").read_bytes() == b"x = 1\n"


async def test_what_an_interrupted_run_left_is_removed_at_start(tmp_path: Path) -> None:
    (tmp_path / "code/.half").mkdir(parents=True)
    (tmp_path / "code/.half/file").write_bytes(b"")

    async def read(key: str) -> bytes:
        raise AssertionError(key)

    CodeFolders(tmp_path / "code", read).prepare()
    assert list((tmp_path / "code").iterdir()) == []
