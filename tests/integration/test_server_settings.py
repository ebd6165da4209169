"""Settings of the server that functions feel: random state, addresses, the limit of a log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving import served

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SOURCE = """
import fcntl, random, socket, struct
random.seed(7)
def handler(event, context):
    print("x" * 100 * event if event else "")
    with socket.socket() as probe:
        found = fcntl.ioctl(probe, 0x8915, struct.pack("256s", b"eth0"))
    return [random.random(), socket.inet_ntoa(found[20:24])]
"""


def test_reseed_network_and_log_limit_reach_the_function(tmp_path: Path) -> None:
    settings = {"reseed": "false", "network": "10.213.0.0/16", "log_limit": 4096, "idle_timeout_s": 0}
    with served(tmp_path / "state", **settings) as running:
        running.create("f", SOURCE, SnapStart={"ApplyOn": "PublishedVersions"})
        version = running.publish("f")
        replies = [running.call("f", 0, version) for _ in range(3)]
        assert all("Restore Duration" in reply.log for reply in replies)
        assert len({reply.payload[0] for reply in replies}) == 1, "clones go on with the snapshot's random state"
        assert all(reply.payload[1].startswith("10.213.") for reply in replies)
        assert "Thaw dropped" in running.call("f", 1000).log


def test_the_second_try_of_init_is_logged_as_part_of_the_call(tmp_path: Path) -> None:
    with served(tmp_path / "state") as running:
        running.create("broken", "import nothing_like_it\ndef handler(event, context): pass\n")
        assert running.call("broken").error == "Unhandled"
        phases = [line for line in running.log("broken").splitlines() if line.startswith("INIT_REPORT")]
    assert ["Phase: init" in phases[0], "Phase: invoke" in phases[1]] == [True, True]
    assert all("Error Type: Runtime.ImportModuleError" in line for line in phases)
