"""JVMs are frozen and thawed: collectors, threads, timers, compiled code, jcmd, sockets, hooks, randomness."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from integration.test_seeds import gateway
from java import jdk
from packing import package
from serving import ROLE, Reply, Served
from thaw.cli.measuring import CallFailed, wait_active
from thaw.runtimes.java_homes import SERVED

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]
SNAP_START = {"ApplyOn": "PublishedVersions"}
CLONES = 3
VERSIONS = [f"java{major}" for major in sorted(SERVED)]


def create(server: Served, program: str, name: str, *, runtime: str | None = None, **variables: str) -> str:
    """A function of one of the programs, with SnapStart; its name. Skipped where there is no such Java."""
    jdk.java(runtime or jdk.oldest())
    server.client.create_function(
        FunctionName=name, Runtime=runtime or jdk.oldest(), Role=ROLE, Handler=f"programs.{program}::handleRequest",
        Timeout=60, MemorySize=1024, SnapStart=SNAP_START, Environment={"Variables": variables},
        Code={"ZipFile": package(jdk.program(program))},
    )  # fmt: skip
    wait_active(server.client, name)
    return name


def clones(server: Served, function: str, event: Any = None, count: int = CLONES) -> list[Reply]:
    """What `count` clones of a newly published version answer, each to its first call."""
    version = server.publish(function)
    return [server.call(function, event, version) for _ in range(count)]


# --- collectors and threads -------------------------------------------------------------------------------------------

# Each collector on two versions, two collectors on each version; `make soak` has the others.
ALWAYS = {
    ("java11", "Serial"), ("java11", "Z"), ("java17", "Parallel"), ("java17", "Z"),
    ("java21", "G1"), ("java21", "Parallel"), ("java25", "Serial"), ("java25", "G1"),
}  # fmt: skip
COLLECTORS = [
    pytest.param(version, collector, marks=() if (version, collector) in ALWAYS else pytest.mark.soak)
    for version in VERSIONS
    for collector in ("Serial", "G1", "Parallel", "Z")
]
SUM = sum(20_000 * (index % 256) for index in range(200))


@pytest.mark.parametrize(("runtime", "collector"), COLLECTORS)
def test_threads_timers_and_heap_go_on_under_each_collector(server: Served, runtime: str, collector: str) -> None:
    function = f"survey-{runtime}-{collector}"
    options = f"-XX:+Use{collector}GC"
    if (runtime, collector) == ("java11", "Z"):
        options = f"-XX:+UnlockExperimentalVMOptions {options}"  # JEP 377: an experiment up to Java 14
    create(server, "Survey", function, runtime=runtime, JAVA_TOOL_OPTIONS=options)
    for reply in clones(server, function, {}):
        assert reply.error is None, reply.payload
        # 32 that wait, the sleeper, up to 4 of the executor, the main one, and some of the JVM itself
        assert 35 <= reply.payload.pop("threads") <= 60
        assert reply.payload == {
            "ticks": True, "naps": True, "woken before": 0, "woken after": 32, "heap": SUM, "heap after churn": SUM,
            "loaded": "A-B",
        }  # fmt: skip


CRYPTOGRAPHY = ("sun.security.", "com.sun.crypto.provider.", "java.math.")


@pytest.mark.parametrize("runtime", VERSIONS)
def test_jcmd_works_on_a_clone_and_compiled_code_is_kept(server: Served, runtime: str) -> None:
    if not (jdk.java(runtime).folder / "bin" / "jcmd").is_file():
        pytest.skip(f"no jcmd of {runtime} on this machine: install a JDK, not a JRE")
    function = create(server, "Attach", f"attach-{runtime}", runtime=runtime)
    version = server.publish(function)
    listed = server.call(function, "Compiler.codelist", version)
    assert listed.error is None, listed.payload
    assert listed.payload.endswith("status 0")
    assert "programs.Attach.hot(J)J" in listed.payload
    compiled = [line.split() for line in listed.payload.splitlines() if "(" in line]
    second = {fields[3] for fields in compiled if fields[1] == "4"}
    assert any("SHA2.implCompress0" in method for method in second), "cryptography is compiled by the second compiler"
    assert all(method.startswith(CRYPTOGRAPHY) for method in second), "nothing else is"
    log = server.log(function)
    assert "directives" not in log, "the compilers' own messages are not the function's"
    assert "compilable" not in log, "nor are these"
    threads = server.call(function, "Thread.print", version).payload
    assert '"main"' in threads
    assert threads.endswith("status 0")


# --- sockets ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(address: str) -> Iterator[int]:
    """A server that answers each byte with the same byte; its port."""
    with socket.create_server((address, 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(20)


def _answer(listener: socket.socket) -> None:
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return  # the listener was shut down: the test is over
        threading.Thread(target=_echo, args=(accepted,), daemon=True).start()


def _echo(accepted: socket.socket) -> None:
    with accepted, contextlib.suppress(ConnectionError):
        while data := accepted.recv(1):
            accepted.sendall(data)


@pytest.mark.parametrize("runtime", ["java11", "java17"])  # Java 13 has another implementation of sockets (JEP 353)
def test_a_socket_that_no_hook_closed_is_closed_in_a_clone(server: Served, runtime: str) -> None:
    address, name = gateway(server), f"open-socket-{runtime}"
    with answering(address) as port:
        function = create(server, "OpenSocket", name, runtime=runtime, HOST=address, PORT=str(port))
        replies = clones(server, function, "go", count=2)
    for reply in replies:
        assert reply.error is None, reply.payload
        assert reply.payload == "SocketException, then 7"


# --- hooks ------------------------------------------------------------------------------------------------------------

BEFORE = ["before:three", "before:two", "before:one"]
AFTER = ["after:one", "after:two", "after:three"]


def called(server: Served, function: str) -> list[list[str]]:
    """The hooks that each environment ran."""
    return [[line.split()[1] for line in lines] for lines in jdk.printed(server, function, "called ")]


@pytest.mark.parametrize("runtime", VERSIONS)
def test_hooks_run_last_registered_first_before_and_first_registered_first_after(server: Served, runtime: str) -> None:
    (reply,) = clones(server, create(server, "Hooks", f"hooks-{runtime}", runtime=runtime), count=1)
    assert reply.payload == BEFORE + AFTER


def test_a_failing_before_hook_fails_the_publish_after_all_hooks_have_run(server: Served) -> None:
    function = create(server, "Hooks", "hooks-before", FAIL="before:three,before:one")
    with pytest.raises(CallFailed, match=r"hooks-before:1 failed: .*") as caught:
        server.publish(function)
    assert "Runtime.BeforeCheckpointError" in str(caught.value) or "CheckpointException" in str(caught.value)
    log = server.log(function)
    assert called(server, function) == [BEFORE]
    # Both exceptions are there, collected in one.
    assert "no luck in before:three" in log
    assert "no luck in before:one" in log


def test_a_failing_after_hook_fails_that_call_after_all_hooks_have_run(server: Served) -> None:
    function = create(server, "Hooks", "hooks-after", FAIL="after:one,after:two")
    version = server.publish(function)
    with pytest.raises(server.client.exceptions.SnapStartException):
        server.call(function, None, version)
    log = server.log(function)
    assert BEFORE in called(server, function)
    assert AFTER in called(server, function)
    assert "no luck in after:one" in log
    assert "no luck in after:two" in log


# --- randomness -------------------------------------------------------------------------------------------------------

# Generators of the function's own, and orders that the JVM chooses once per process (docs/java.md).
OWN = {"Random of Init", "SplittableRandom of Init"}
PER_PROCESS = {"Object.hashCode", "Set.of order", "HashMap order"}


@pytest.mark.parametrize("runtime", VERSIONS)
def test_no_two_clones_draw_the_same(server: Served, runtime: str) -> None:
    check_differences(clones(server, create(server, "Unique", f"unique-{runtime}", runtime=runtime), count=12))


@pytest.mark.soak
@pytest.mark.parametrize("runtime", VERSIONS)
def test_no_two_of_a_thousand_clones_draw_the_same(server: Served, runtime: str) -> None:
    check_differences(clones(server, create(server, "Unique", f"thousand-{runtime}", runtime=runtime), count=1000))


def check_differences(replies: list[Reply]) -> None:
    assert all(reply.error is None for reply in replies), replies[0].payload
    for source in replies[0].payload.keys() - PER_PROCESS:
        drawn = [reply.payload[source] for reply in replies]
        assert len(set(drawn)) == (1 if source in OWN else len(drawn)), source
