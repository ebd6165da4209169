"""What people are told of a snapshot: findings at publish, `thaw publish`, `thaw snapshot inspect`, failed freezes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from packing import package
from serving import Served, Traces, served
from thaw.cli.measuring import CallFailed, wait_active

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SNAP_START = {"ApplyOn": "PublishedVersions"}

HOLDING = """
import os, random, socket, threading, time

class Pool:
    def __init__(self):
        self.numbers = random.Random()

pool = Pool()
table = bytearray(os.urandom(3 << 20))
listener = socket.create_server(("127.0.0.1", 0))

def connect():
    return socket.create_connection(listener.getsockname())

connection = connect()

def work():
    while True:
        time.sleep(3600)

for number in range(2):
    threading.Thread(target=work, name="worker-%d" % number, daemon=True).start()
open("/tmp/model.bin", "wb").write(os.urandom(2 << 20))

def handler(event, context):
    return len(table)
"""

PLAIN = "def handler(event, context):\n    return event\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("state")) as running:
        yield running
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


def thaw(*arguments: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "thaw.cli", *arguments], capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def inspected(server: Served, name: str) -> Any:
    return json.loads(thaw("snapshot", "inspect", name, "--json", "--state-dir", str(server.state_dir)))


def test_findings_name_what_the_process_really_held(server: Served) -> None:
    variables = {"Variables": {"DB_PASSWORD": "hidden in plain sight", "DB_PASSWORD_ARN": "x"}}
    server.create("holding", HOLDING, SnapStart=SNAP_START, Environment=variables)
    said = thaw("publish", "holding", "--endpoint-url", server.process.url)
    assert "holding:1 is Active after" in said
    sentences = [
        "TS201 app.pool.numbers (a random.Random) goes on with the same numbers in every clone: make it, or "
        "seed it again, "
        "in an after-restore hook.",
        "TS231 The variable DB_PASSWORD looks like a secret and is in the snapshot's memory (encrypted where it is "
        "stored): read what may change from a secret store in an after-restore hook.",
        "made in app.py, line 13 (connect), called from line 15, is a TCP connection to 127.0.0.1:",
        "TS251 /tmp holds 2.0 MiB (files: 1), the largest being /tmp/model.bin (2.0 MiB), and every clone "
        "unpacks all of "
        "it: remove in a before-snapshot hook what calls do not need.",
        "TS261 2 threads worker-0, worker-1, made in app.py, line 22, go on in every clone from where they "
        "stand now: let "
        "them wait for work then, and hold no connection and no time of day.",
    ]
    log = server.log("holding")
    for sentence in sentences:
        assert sentence in said
        assert sentence in log
    assert log.count("SNAPSHOT_FINDING") == 5
    assert "hidden in plain sight" not in log
    assert server.call("holding", None, "1").payload == 3 << 20


def test_inspect_shows_what_a_snapshot_holds_and_what_changed(server: Served) -> None:
    server.create("growing", HOLDING, SnapStart=SNAP_START)
    server.publish("growing")
    more = HOLDING.replace("3 << 20", "6 << 20").replace("range(2)", "range(3)")
    server.client.update_function_code(FunctionName="growing", ZipFile=package({"app.py": more.encode()}))
    wait_active(server.client, "growing")
    server.publish("growing")
    found = inspected(server, "growing")
    assert found["snapshot"] == "growing:2"
    assert found["memory_bytes"] > 6 << 20
    assert 0 < found["working_set_bytes"] <= found["memory_bytes"]
    (process,) = found["processes"]
    assert {"[heap]", "[anonymous]", "[stack]"} <= {one["what"] for one in process["mappings"]}
    assert [one["name"] for one in found["objects"]["threads"]] == ["MainThread", "worker-0", "worker-1", "worker-2"]
    assert len(process["threads"]) == 4
    states = sorted(one["state"] for one in process["descriptors"] if one["kind"] == "TCP")
    assert states == ["connected", "listening"], "the runtime's own connection is not the function's"
    assert found["tmp"]["files"] == [["/tmp/model.bin", 2 << 20]]
    assert found["objects"]["largest"][0] == ["bytearray", (6 << 20) + 57, "app.table"]
    assert found["since"]["snapshot"] == "growing:1"
    assert found["since"]["types"]["bytearray"] == 3 << 20
    assert found["since"]["threads"] == {"came": ["worker-2"], "went": []}
    assert found["since"]["descriptors"] == {"came": [], "went": []}
    assert inspected(server, "growing:1")["since"] is None
    shown = thaw("snapshot", "inspect", "growing", "--state-dir", str(server.state_dir))
    assert "app.table bytearray 6.00" in shown
    assert "worker-2 app.py, line 19 (work) app.py, line 22" in shown
    assert "Since growing:1" in shown
    assert "+ thread worker-2" in shown


def test_a_plain_function_has_no_findings(server: Served) -> None:
    server.create("plain", PLAIN, SnapStart=SNAP_START)
    said = thaw("publish", "plain", "--endpoint-url", server.process.url)
    assert "Nothing was found that its clones need to be told of." in said
    assert "SNAPSHOT_FINDING" not in server.log("plain")


def test_a_child_process_is_a_finding_with_its_place_in_the_source(server: Served) -> None:
    source = "import subprocess\n\ndef start():\n    return subprocess.Popen(['sleep', '3600'])\n\nchild = start()\n"
    server.create("parent", source + PLAIN, SnapStart=SNAP_START)
    said = thaw("publish", "parent", "--endpoint-url", server.process.url)
    assert (
        "TS271 The child process sleep (sleep 3600), made in app.py, line 4 (start), called from line 6, is part of "
        "the snapshot, and every clone has one of its own: end it in a before-snapshot hook where clones do not "
        "need it."
    ) in said
    assert [one["name"] for one in inspected(server, "parent")["processes"]][1:] == ["sleep"]
    assert server.call("parent", 5, "1").payload == 5


def test_publish_waits_for_a_function_that_was_made_a_moment_ago(server: Served) -> None:
    source = "import random\nnumbers = [1, random.Random()]\n" + PLAIN
    server.create("young", PLAIN, SnapStart=SNAP_START)
    server.client.update_function_code(FunctionName="young", ZipFile=package({"app.py": source.encode()}))
    server.client.update_function_configuration(FunctionName="young", Timeout=7)
    said = thaw("publish", "young", "--endpoint-url", server.process.url)
    assert "TS201 app.numbers[1] (a random.Random) goes on with the same numbers in every clone" in said


def test_publish_without_snapstart_says_that_there_is_no_snapshot(server: Served) -> None:
    server.create("cold", PLAIN)
    said = thaw("publish", "cold", "--endpoint-url", server.process.url)
    assert "SnapStart is off, so there is no snapshot and nothing to find in one." in said


def test_publish_tells_what_is_wrong_in_one_sentence(server: Served) -> None:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:nobody"
    assert thaw("publish", "nobody", "--endpoint-url", server.process.url, status=1).endswith(
        f"thaw: nobody cannot be published: Function not found: {arn}"
    )
    assert thaw("publish", "nobody", "--endpoint-url", "http://127.0.0.1:9", status=1).endswith(
        "thaw: nobody cannot be published, because no server answers at http://127.0.0.1:9: start `thaw "
        "serve`, or name "
        "another one with --endpoint-url."
    )


REFUSED = {
    "a socket": (
        "import socket\n\ndef pair():\n    near, far = socket.socketpair()\n    socket.send_fds(near, [b'x'], [0])\n"
        "    return near, far\n\nheld = pair()\n",
        ", which cannot be frozen: receive them in a before-snapshot hook. It was made in app.py, line 4 "
        "(pair), called "
        "from line 8.",
    ),
    "a file": (
        "import fcntl\nopen('/tmp/x', 'w').close()\nclass Log:\n    pass\nlog = Log()\nlog.file = open('/tmp/x')\n"
        "fcntl.fcntl(log.file, fcntl.F_SETLEASE, fcntl.F_RDLCK)\n",
        " is a file with a LEASE lock (/tmp/x), which cannot be frozen: give it back in a before-snapshot hook. It is "
        "held by app.log.file.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_failed_freeze_names_where_the_obstacle_was_made(server: Served, case: str) -> None:
    source, ending = REFUSED[case]
    name = "refused-" + case.replace(" ", "-")
    server.create(name, source + PLAIN, SnapStart=SNAP_START)
    with pytest.raises(CallFailed) as failed:
        server.publish(name)
    assert str(failed.value).endswith(ending)
    found = server.client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert found["StateReason"].endswith(ending)
    assert found["StateReasonCode"] == "FunctionError"
    assert found["StateReason"] in server.log(name)
    said = thaw("publish", name, "--endpoint-url", server.process.url, status=1)
    assert said.endswith(f"{ending} `thaw logs {name}` has what the function wrote.")


def test_a_failed_init_names_the_functions_own_error(server: Served) -> None:
    server.create("booming", "raise RuntimeError('boom [now]')\n", SnapStart=SNAP_START)
    said = thaw("publish", "booming", "--endpoint-url", server.process.url, status=1)
    assert (
        "booming:1 failed: An error occurred during function initialization. The Init phase failed: the runtime "
        "reported Runtime.Unknown (RuntimeError: boom [now]). `thaw logs booming` has what the function wrote."
    ) in said
