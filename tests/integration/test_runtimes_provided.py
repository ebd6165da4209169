"""Functions that bring their runtime along, with snapshots although they never ask for restore/next."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from packing import Entries, package
from serving import Served, Traces, served

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root")]

PROGRAM, DATA = stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
SNAP_START = {"ApplyOn": "PublishedVersions"}

# One process: bash speaks HTTP itself over one connection. `made` is set once, during Init.
BASH = r"""#!/bin/bash
set -u
exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/://}"
made=$(( RANDOM * 32768 + RANDOM )) calls=0
answer() {  # reads one response from descriptor 3 into $id and $body
    local line length=0
    while IFS= read -r line <&3 && line=${line%$'\r'} && [ -n "$line" ]; do
        case ${line,,} in
            content-length:*) length=${line##* } ;;
            lambda-runtime-aws-request-id:*) id=${line##* } ;;
        esac
    done
    IFS= read -r -N "$length" body <&3 || true
}
base=/2018-06-01/runtime/invocation
while :; do
    printf 'GET %s/next HTTP/1.1\r\nHost: api\r\n\r\n' "$base" >&3
    answer
    calls=$(( calls + 1 ))
    echo "handling call $calls"
    out="{\"event\":$body,\"made\":$made,\"calls\":$calls,\"runtime\":\"${AWS_EXECUTION_ENV-none}\",\"pid\":$$}"
    printf 'POST %s/%s/response HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n%s' \
        "$base" "$id" "${#out}" "$out" >&3
    answer
done
"""

# AWS's own tutorial of a custom runtime: a child process, curl, asks for each invocation.
CURL = r"""#!/bin/sh
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
    headers=$(mktemp)
    event=$(curl -sS -L -D "$headers" "$api/next")
    id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
    curl -sS "$api/$id/response" -d "{\"echo\":$event}" >/dev/null
done
"""

C = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static char head[4096], body[65536], id[64];
static int api;

static void answer(void)
{
	size_t used = 0, length = 0;
	char *line;

	do {
		if (read(api, head + used, 1) != 1)
			exit(3);
		head[++used] = 0;
	} while (!strstr(head, "\r\n\r\n") && used < sizeof head - 2);
	for (line = strtok(head, "\r\n"); line; line = strtok(0, "\r\n")) {
		if (!strncasecmp(line, "content-length:", 15))
			length = strtoul(line + 15, 0, 10);
		if (!strncasecmp(line, "lambda-runtime-aws-request-id:", 30))
			sscanf(line + 30, " %63s", id);
	}
	for (used = 0; used < length;) {
		ssize_t got = read(api, body + used, length - used);

		if (got <= 0)
			exit(4);
		used += got;
	}
	body[length] = 0;
}

int main(void)
{
	struct sockaddr_in to = {AF_INET, htons(9001), {htonl(INADDR_LOOPBACK)}, {0}};
	int calls = 0;

	api = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(api, (struct sockaddr *)&to, sizeof to))
		return 2;
	for (;;) {
		char out[66000];

		dprintf(api, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: api\r\n\r\n");
		answer();
		snprintf(out, sizeof out, "{\"event\":%s,\"calls\":%d,\"by\":\"C\"}", body, ++calls);
		dprintf(api, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\n", id);
		dprintf(api, "Host: api\r\nContent-Length: %zu\r\n\r\n%s", strlen(out), out);
		answer();
	}
}
"""

MORTAL_THREAD = r"""
#include <pthread.h>

static pid_t first;

static void *watch(void *unused)
{
	while (getpid() == first)
		usleep(1000);
	_exit(7);
	return unused;
}

"""
# Ends as soon as it is somebody else's clone, without a word.
MORTAL = (
    C.replace("int main(void)", MORTAL_THREAD + "int main(void)")
    .replace("\tint calls = 0;", "\tint calls = 0;\n\tpthread_t thread;\n")
    .replace("\tapi = socket(", "\tfirst = getpid();\n\tpthread_create(&thread, 0, watch, 0);\n\tapi = socket(")
    .replace("\t\tsnprintf(", "\t\tusleep(500000); /* the thread is through by then */\n\t\tsnprintf(")
)

GO = r"""package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for calls := 1; ; calls++ {
		next, err := http.Get(base + "next")
		if err != nil {
			os.Exit(2)
		}
		event, _ := io.ReadAll(next.Body)
		next.Body.Close()
		out := fmt.Sprintf(`{"event":%s,"calls":%d,"by":"Go"}`, event, calls)
		posted, err := http.Post(base+next.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response",
			"application/json", bytes.NewBufferString(out))
		if err != nil {
			os.Exit(3)
		}
		posted.Body.Close()
	}
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # Every call in an environment of its own.
    with served(tmp_path_factory.mktemp("state"), idle_timeout_s=0) as running:
        yield dataclasses.replace(running, runtime="provided.al2023")
        traces = Traces.of(running.process.pid)
    traces.assert_gone()


def bootstrap(content: str | bytes) -> Entries:
    data = content.encode() if isinstance(content, str) else content
    return {"bootstrap": (PROGRAM, data)}


def compiled(folder: Path, source: str, command: list[str], name: str) -> bytes:
    (folder / name).write_text(source)
    variables = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(folder / "cache"), "GO111MODULE": "off"}
    subprocess.run([*command, name], cwd=folder, check=True, capture_output=True, env=variables)
    return (folder / "bootstrap").read_bytes()


def test_a_bootstrap_in_bash_serves_calls(server: Served) -> None:
    server.create("bash", bootstrap(BASH), handler="unused")
    reply = server.call("bash", {"a": [1, "ü"]})
    assert reply.error is None
    assert reply.payload["event"] == {"a": [1, "ü"]}
    assert reply.payload["runtime"] == "none"  # Lambda does not set AWS_EXECUTION_ENV here
    assert "handling call 1" in reply.log
    assert "INIT_START Runtime Version: provided:al2023.v0\t" in server.log("bash")


def test_without_restore_next_it_is_frozen_at_its_first_invocation_next(server: Served) -> None:
    server.create("frozen", bootstrap(BASH), handler="unused", SnapStart=SNAP_START)
    version = server.publish("frozen")
    replies = [server.call("frozen", number, version) for number in range(3)]
    assert [reply.payload["event"] for reply in replies] == [0, 1, 2]
    assert {reply.payload["calls"] for reply in replies} == {1}  # three clones, each at its first call
    assert len({reply.payload["made"] for reply in replies}) == 1  # Init ran once, before the snapshot
    assert all("Restore Duration" in reply.log for reply in replies)
    assert server.log("frozen").count("RESTORE_REPORT Restore Duration:") == 3


def test_a_clone_that_the_engine_cannot_finish_is_replaced_by_a_fresh_start(server: Served) -> None:
    """It waits for no restore/next, so the call has it before anybody knows; the event is seen once, by the other."""
    inside = BASH.replace("set -u", "set -u\ncd /var/task/inside || true", 1)
    server.create("broken", {**bootstrap(inside), "inside/data": (DATA, b"")}, handler="unused", SnapStart=SNAP_START)
    version = server.publish("broken")
    assert "Restore Duration" in server.call("broken", 0, version).log
    (folder,) = server.state_dir.glob("code/*/inside")
    shutil.rmtree(folder)
    for number in range(2):  # one clone may have been made before
        reply = server.call("broken", number, version)
        assert (reply.error, reply.payload["event"], reply.payload["calls"]) == (None, number, 1)
    assert "Init Duration" in reply.log
    lines = server.log("broken")
    sentence = "The snapshot could not be restored: Restoring stopped at chdir to /var/task/inside (No such file or "
    assert f"{sentence}directory). This call starts afresh." in lines
    assert lines.count("handling call") == 3, "each event was seen once"


def test_a_static_program_in_c_is_frozen_and_cloned(server: Served, tmp_path: Path) -> None:
    program = compiled(tmp_path, C, ["gcc", "-O2", "-static", "-o", "bootstrap"], "program.c")
    server.create("static", bootstrap(program), handler="unused", SnapStart=SNAP_START)
    version = server.publish("static")
    assert [server.call("static", n, version).payload for n in range(3)] == [
        {"event": n, "calls": 1, "by": "C"} for n in range(3)
    ]


def test_clones_that_end_at_once_hold_up_neither_publish_nor_calls(server: Served, tmp_path: Path) -> None:
    command = ["gcc", "-O2", "-static", "-pthread", "-o", "bootstrap"]
    program = compiled(tmp_path, MORTAL, command, "program.c")
    server.create("mortal", bootstrap(program), handler="unused", SnapStart=SNAP_START, Timeout=5)
    version = server.publish("mortal")
    reply = server.call("mortal", 1, version)
    assert reply.error == "Unhandled"
    assert reply.payload["errorType"] == "Runtime.ExitError"
    assert reply.payload["errorMessage"].endswith("Error: Runtime exited with error: exit status 7")


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not on this machine: a bootstrap in Go is not tested")
def test_a_program_in_go_is_frozen_and_cloned(server: Served, tmp_path: Path) -> None:
    program = compiled(tmp_path, GO, ["go", "build", "-o", "bootstrap"], "program.go")
    server.create("go", bootstrap(program), handler="unused", SnapStart=SNAP_START)
    version = server.publish("go")
    assert [server.call("go", n, version).payload for n in range(3)] == [
        {"event": n, "calls": 1, "by": "Go"} for n in range(3)
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine: AWS's tutorial is not tested")
def test_awss_tutorial_with_curl_serves_calls(server: Served) -> None:
    server.create("curl", bootstrap(CURL), handler="unused")
    assert server.call("curl", {"a": 1}).payload == {"echo": {"a": 1}}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine: AWS's tutorial is not tested")
def test_awss_tutorial_with_curl_is_frozen_while_its_child_waits(server: Served) -> None:
    server.create("tree", bootstrap(CURL), handler="unused", SnapStart=SNAP_START)
    version = server.publish("tree")
    replies = [server.call("tree", number, version) for number in range(3)]
    assert [reply.payload for reply in replies] == [{"echo": number} for number in range(3)]
    assert all("Restore Duration" in reply.log for reply in replies)


def test_the_bootstrap_may_be_in_a_layer(server: Served, tmp_path: Path) -> None:
    layer = server.client.publish_layer_version(LayerName="runtime", Content={"ZipFile": package(bootstrap(BASH))})
    server.create("layered", {"data": b"x"}, handler="unused", Layers=[layer["LayerVersionArn"]])
    assert server.call("layered", 7).payload["event"] == 7


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("absent", {"other": b""}, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ("plain", {"bootstrap": (DATA, b"#!/bin/sh\n")}, "fork/exec /var/task/bootstrap: permission denied"),
        ("rubbish", bootstrap(b"\0\1\2\3"), "fork/exec /var/task/bootstrap: exec format error"),
    ],
)  # fmt: skip
def test_a_bootstrap_that_cannot_start_is_an_invalid_entrypoint(
    server: Served, name: str, entries: Entries, message: str
) -> None:
    server.create(name, entries, handler="unused")
    reply = server.call(name)
    assert reply.error == "Unhandled"
    assert reply.payload["errorType"] == "Runtime.InvalidEntrypoint"
    assert reply.payload["errorMessage"].endswith(f" Error: {message}")
