"""Functions in JavaScript, with AWS's own client for Node.js, fresh and from snapshots."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from packing import Entries
from serving import Served, Traces, served, share_runtimes
from thaw.errors import RuntimeNotFound
from thaw.runtimes import Runtimes
from thaw.runtimes.node import discover

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SNAP_START = {"ApplyOn": "PublishedVersions"}

# State of all kinds that a JavaScript engine has: heap, compiled code, timers, promises, workers of the thread pool.
HANDLER = """
const crypto = require("node:crypto");
const fs = require("node:fs");
let made = crypto.randomBytes(8).toString("hex"), calls = 0, ticks = 0;
const heap = new Map();
for (let i = 0; i < 20000; i++) heap.set("key " + i, { i, text: "value " + i });
const hash = (n) => { let h = 7; for (let i = 0; i < n; i++) h = (h * 31 + i) >>> 0; return h; };
const warm = hash(3e6);               // long enough that V8 compiles it
setInterval(() => { ticks++; }, 20);
fs.writeFileSync("/tmp/kept", made);
const pool = new Promise((done) => crypto.pbkdf2("a", "b", 2000, 32, "sha256", (_, key) => done(key.toString("hex"))));
const child = require("node:child_process").spawn("/bin/sleep", ["1000"]);  // TREE

// Everything that draws, once in Init, so that what keeps numbers in memory has some.
const randoms = async () => ({
  random: Math.random(), randomUUID: crypto.randomUUID(), randomInt: crypto.randomInt(1e12),
  later: await new Promise((done) => crypto.randomInt(1e12, (_, drawn) => done(drawn))),
  randomBytes: crypto.randomBytes(8).toString("hex"), filled: crypto.randomFillSync(Buffer.alloc(8)).toString("hex"),
  values: crypto.getRandomValues(new Uint32Array(2)).join(), web: crypto.webcrypto.randomUUID(),
  key: crypto.generateKeySync("aes", { length: 128 }).export().toString("hex"),
  pair: crypto.generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" }).d,
});
const drawn = randoms();

exports.handler = async (event, context) => {
  calls++;
  const before = ticks;
  await new Promise((done) => setTimeout(done, 60));
  console.log("handling", event.name);
  return {
    event, made, calls, same: hash(3e6) === warm, held: heap.get("key 19999").i, pool: await pool,
    ticking: ticks > before, kept: fs.readFileSync("/tmp/kept", "utf8"),
    heap: require("node:v8").getHeapStatistics().heap_size_limit,
    drawn: (await drawn) && await randoms(), pids: [process.pid, Number(fs.readlinkSync("/proc/self"))],
    read: (await fs.promises.readdir("/var/task")).sort(), id: context.awsRequestId.length,
    runtime: process.env.AWS_EXECUTION_ENV, flag: process.env.THAW_RESEED,
  };
};
exports.failing = async () => { throw new RangeError("out of reach"); };
"""
ESM = 'import os from "node:os";\nexport const handler = async (event) => ({ got: event, host: os.hostname() });\n'


def installed_node(state: Path) -> str:
    """The newest node for functions; its client is built once per checkout, which takes a minute."""
    found = asyncio.run(discover())
    if not found:
        pytest.skip("node is not on this machine: functions in JavaScript are not tested")
    share_runtimes(state)
    try:
        asyncio.run(Runtimes(state).find(found[0].name))
    except RuntimeNotFound as error:
        pytest.skip(f"functions in JavaScript are not tested: {error}")
    return found[0].name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    state = tmp_path_factory.mktemp("state")
    name = installed_node(state)
    with served(state, idle_timeout_s=0) as running:  # every call in an environment of its own
        yield dataclasses.replace(running, runtime=name)
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


def create(server: Served, name: str, entries: Entries, *, handler: str = "index.handler", **settings: Any) -> None:
    server.create(name, entries, handler=handler, Timeout=20, **settings)


def test_a_function_in_javascript_serves_calls(server: Served) -> None:
    create(server, "plain", {"index.js": HANDLER.encode()}, MemorySize=1024)
    reply = server.call("plain", {"name": "Jyväskylä"})
    assert reply.error is None, reply.payload
    assert reply.payload["event"] == {"name": "Jyväskylä"}
    assert reply.payload["same"] is True
    assert reply.payload["id"] == 36
    assert reply.payload["runtime"] == f"AWS_Lambda_{server.runtime}"
    assert reply.payload["heap"] < 1280 << 20  # V8 was told how much memory there is
    assert "handling Jyväskylä" in reply.log
    assert f"INIT_START Runtime Version: nodejs:{server.runtime[6:-2]}.v" in server.log("plain")


def test_modules_of_both_kinds_and_errors(server: Served) -> None:
    create(server, "module", {"index.mjs": ESM.encode()})
    assert server.call("module", 7).payload == {"got": 7, "host": "thaw"}
    create(server, "failing", {"index.js": HANDLER.encode()}, handler="index.failing")
    reply = server.call("failing")
    assert reply.error == "Unhandled"
    assert (reply.payload["errorType"], reply.payload["errorMessage"]) == ("RangeError", "out of reach")
    create(server, "absent", {"index.js": b"exports.other = 1;"})
    assert server.call("absent").payload["errorType"] == "Runtime.HandlerNotFound"


@pytest.mark.parametrize("tree", [False, True], ids=["alone", "with a child process"])
def test_clones_of_a_frozen_node_go_on_where_it_waited(server: Served, tree: bool) -> None:
    source = HANDLER if tree else "\n".join(line for line in HANDLER.splitlines() if not line.endswith("// TREE"))
    name = "frozen-tree" if tree else "frozen"
    create(server, name, {"index.js": source.encode()}, SnapStart=SNAP_START)
    version = server.publish(name)
    with ThreadPoolExecutor(3) as callers:
        replies = list(callers.map(lambda n: server.call(name, {"name": n}, version), range(3)))
    assert [reply.error for reply in replies] == [None] * 3, replies[0].payload
    answers = [reply.payload for reply in replies]
    assert [answer["event"]["name"] for answer in answers] == [0, 1, 2]
    assert {answer["calls"] for answer in answers} == {1}
    assert len({answer["made"] for answer in answers}) == 1  # one Init for all of them
    for answer in answers:
        assert answer["same"]  # code that V8 compiled
        assert answer["ticking"]  # its timers
        assert (answer["held"], answer["kept"], answer["read"]) == (19999, answer["made"], ["index.js"])
        assert len(answer["pool"]) == 64
    assert all("Restore Duration" in reply.log for reply in replies)
    assert server.log(name).count("RESTORE_REPORT Restore Duration:") == 3
    for source_of_numbers in answers[0]["drawn"]:
        drawn = {answer["drawn"][source_of_numbers] for answer in answers}
        assert len(drawn) == 3, f"clones share what {source_of_numbers} draws"
    assert all(noted == real for noted, real in (answer["pids"] for answer in answers))
