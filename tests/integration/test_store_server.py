"""A server over every kind of origin, and over one that is full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving import served
from stores import aws, new_bucket, valkey
from thaw.cli.measuring import wait_active
from waiting import until_true

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = "import os\nheld = os.urandom(%d << 20)\ndef handler(event, context):\n    return [event, len(held)]\n"
SNAP_START = {"ApplyOn": "PublishedVersions"}


def test_a_function_lives_in_a_bucket_with_both_caches(tmp_path: Path) -> None:
    with aws() as endpoint, valkey(tmp_path / "valkey") as l2:
        settings = {"origin": new_bucket(endpoint), "l1_bytes": 1 << 28, "l2_url": l2.url, "idle_timeout_s": 0}
        with served(tmp_path / "state", **settings) as running:
            running.create("f", SOURCE % 4, SnapStart=SNAP_START)
            version = running.publish("f")
            assert running.call("f", 1, version).payload == [1, 4 << 20]
        l2.stop()
        with served(tmp_path / "state", **settings) as running:
            reply = running.call("f", 2, version)
            assert reply.payload == [2, 4 << 20]
            assert "Restore Duration" in reply.log
            running.client.delete_function(FunctionName="f")
        assert not (tmp_path / "state" / "origin").exists()
        assert not list((tmp_path / "state" / "l1").glob("??/*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "thaw-test", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_full_at_publish_fails_the_version_and_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    with served(tmp_path / "state", origin=small_disk / "origin") as running:
        running.create("f", SOURCE % 40, SnapStart=SNAP_START)
        version = running.client.publish_version(FunctionName="f")["Version"]

        def found() -> dict[str, str]:
            answer: dict[str, str] = running.client.get_function_configuration(FunctionName="f", Qualifier=version)
            return answer

        until_true(lambda: found()["State"] == "Failed", "the publish failed", limit_s=60)
        assert "The snapshot could not be stored: Thaw cannot write to " in found()["StateReason"]
        assert "no space left on device: free space there" in found()["StateReason"]
        left = [path for name in ("chunks", "manifests") for path in (small_disk / "origin" / name).rglob("*")]
        assert not [path for path in left if path.is_file()]
        assert running.call("f", 1).payload == [1, 40 << 20]  # $LATEST needs no snapshot


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_two_servers_publish_and_read_the_same_snapshots_in_one_origin(tmp_path: Path, kind: str) -> None:
    """Each has a catalog of its own, the second a copy of the first's, so both make the same version 2."""
    with aws() as endpoint:
        origin = str(tmp_path / "origin") if kind == "folder" else new_bucket(endpoint)
        settings = {"origin": origin, "l1_bytes": 1 << 28, "idle_timeout_s": 0}
        states = [tmp_path / "one", tmp_path / "two"]
        with served(states[0], **settings) as first:
            first.create("f", SOURCE % 3, SnapStart=SNAP_START)
            one = first.publish("f")
            first.client.update_function_configuration(FunctionName="f", Description="so that there is something new")
            wait_active(first.client, "f")
        copy_state(*states)
        with (
            served(states[0], **settings) as first,
            served(states[1], **settings) as second,
            ThreadPoolExecutor() as at,
        ):
            versions = list(at.map(lambda server: server.publish("f"), (first, second)))
            assert versions == ["2", "2"]
            asked = [(server, number, version) for number in range(4) for server in (first, second)
                     for version in (one, "2")]  # fmt: skip
            replies = list(at.map(lambda each: each[0].call("f", each[1], each[2]), asked))
        for (_, number, _), reply in zip(asked, replies, strict=True):
            assert reply.payload == [number, 3 << 20]
            assert "Restore Duration" in reply.log
        shown = [verify(state, origin) for state in states]  # whosever it is: what is in the origin opens for both
        assert shown[0] == shown[1]
        assert [line.split()[:2] for line in shown[0]] == [["sound", "f:1:"], ["sound", "f:2:"]]


def verify(state: Path, origin: str) -> list[str]:
    command = [sys.executable, "-m", "thaw.cli", "snapshot", "verify", "--state-dir", str(state)]
    environment = os.environ | {"THAW_ORIGIN": origin}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def copy_state(source: Path, target: Path) -> None:
    """A second server that knows what the first one knows."""
    (target / "keys").mkdir(parents=True, mode=0o700)
    for name in ("catalog.sqlite", "keys/default.key"):
        shutil.copy2(source / name, target / name)
