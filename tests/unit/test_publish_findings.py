"""What a process holds, read from /proc; the sentences made of it; where the obstacle of a failed freeze came from."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.errors import NotFreezable
from thaw.lint import RULES
from thaw.publish.diagnosis import diagnosed
from thaw.publish.findings import CODES, find
from thaw.publish.report import Child, Report, Socket, Thread
from thaw.publish.stock import Descriptor, ProcessStock, Stock, secret_names, take_stock

HERE, THERE = ("/var/task/app.py", 12, "start"), ("/var/task/app.py", 40, "<module>")


def process(number: int = 2, **given: object) -> ProcessStock:
    empty = {"name": "python3.13", "command": "", "mappings": [], "threads": [], "descriptors": [], "secrets": []}
    return ProcessStock(number=number, **(empty | given))  # type: ignore[arg-type]


def sentences(stock: Stock, report: Report | None = None) -> list[str]:
    return [f"{one.code} {one.sentence}" for one in find(stock, report)]


# --- the stock --------------------------------------------------------------------------------------------------------


def test_the_stock_of_a_real_process(tmp_path: Path) -> None:
    code = (
        "import socket, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "held = bytearray(b'x') * (8 << 20)\n"
        "server = socket.create_server(('127.0.0.1', 0)); near = socket.create_connection(server.getsockname())\n"
        "other = socket.create_connection(server.getsockname()); file = open(sys.argv[1])\n"
        "print(other.getsockname()[1], server.getsockname()[1], flush=True)\n"
    )
    held = tmp_path / "held"
    held.write_text("")
    environment = {"PATH": os.environ["PATH"], "DB_PASSWORD": "x", "DB_PASSWORD_FILE": "/x"}
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code, str(held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with child:
        assert child.stdout is not None
        own_port, server_port = map(int, child.stdout.readline().split())
        stock = take_stock(child.pid, [child.pid, 2**22 + 1], own_port=own_port)
        assert child.stdin is not None
        child.stdin.close()
    (found,) = stock.processes
    assert found.secrets == ["DB_PASSWORD"]
    assert len(found.threads) == 2
    assert sum(row[3] for row in found.mappings) > 8 << 20
    tcp = {one.state: one for one in found.descriptors if one.kind == "TCP"}
    assert len([one for one in found.descriptors if one.kind == "TCP"]) == 2, "the runtime's own is left out"
    assert tcp["listening"].local == f"127.0.0.1:{server_port}"
    assert tcp["connected"].peer == f"127.0.0.1:{server_port}"
    assert [one.link for one in found.descriptors].count(str(held)) == 1


def test_addresses_of_both_families_are_written_as_people_do() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        found = take_stock(os.getpid()).processes[0].descriptors
        assert f"[::1]:{port}" in [one.local for one in found]


@pytest.mark.parametrize(
    ("name", "secret"),
    [("DB_PASSWORD", True), ("apiKey", True), ("STRIPE_SECRET", True), ("GITHUB_TOKEN", True), ("PRIVATE_KEY", True),
     ("SECRET_ARN", False), ("SECRET_NAME", False), ("TOKEN_URL", False), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", False),
     ("TABLE", False), ("KEYBOARD", False)],
)  # fmt: skip
def test_names_that_look_like_secrets(name: str, secret: bool) -> None:
    assert secret_names([name]) == ([name] if secret else [])


# --- the sentences ----------------------------------------------------------------------------------------------------


def test_nothing_to_say_of_an_ordinary_process() -> None:
    descriptors = [Descriptor(0, "/dev/null"), Descriptor(3, "socket:[1]", "TCP", "listening", "127.0.0.1:80")]
    stock = Stock([process(threads=[(2, "python3.13")], descriptors=descriptors)], tmp_bytes=1000, tmp_files=1)
    assert sentences(stock, Report("python3.13", threads=[Thread("MainThread", 2, main=True)])) == []


def test_connections_are_told_without_a_report_too() -> None:
    descriptors = [Descriptor(7, "socket:[9]", "TCP", "connected", "10.0.0.2:40000", "10.0.0.1:5432")]
    descriptors.append(Descriptor(8, "socket:[8]", "TCP", "connected", "127.0.0.1:40000", "127.0.0.1:9001"))
    stock = Stock([process(threads=[(2, "java"), (3, "GC")], descriptors=descriptors)], runtime_api="127.0.0.1:9001")
    assert sentences(stock) == [
        "TS241 Descriptor 7 of python3.13 is a TCP connection to 10.0.0.1:5432, which every clone finds reset by its "
        "peer: close it in a before-snapshot hook and open it in an after-restore hook, or reconnect on error.",
    ]


def test_generators_of_children_that_cannot_be_renewed_are_named() -> None:
    (finding,) = find(Stock([process()]), None, [(7, "node", "the generator of Math.random")])
    assert (finding.code, finding.sentence) == (
        "TS202",
        "The child process node (7) may have the generator of Math.random, which goes on with the same numbers in "
        "every clone: draw from /dev/urandom there, or start the process in an after-restore hook.",
    )


def test_children_and_credentials() -> None:
    stock = Stock([process(), process(9, name="sleep", command="sleep 3600", descends=True)])
    report = Report(
        "python3.13",
        children=[Child(9, "sleep 3600", [HERE, THERE])],
        credentials=[("botocore.credentials.RefreshableCredentials", "app.session._credentials")],
    )
    assert sentences(stock, report) == [
        "TS232 app.session._credentials (a botocore.credentials.RefreshableCredentials) holds AWS credentials "
        "that were "
        "fetched during Init, and a clone may use them after they expired: make the session or client anew in an "
        "after-restore hook, or do not call AWS in Init.",
        "TS271 The child process sleep (sleep 3600), made in app.py, line 12 (start), called from line 40, is "
        "part of the "
        "snapshot, and every clone has one of its own: end it in a before-snapshot hook where clones do not need it.",
    ]


def test_variables_that_the_function_set_itself_count() -> None:
    report = Report("python3.13", variables=["API_KEY", "HOME"])
    assert sentences(Stock([process(secrets=["DB_PASSWORD"])]), report) == [
        "TS231 The variables API_KEY, DB_PASSWORD look like secrets and are in the snapshot's memory (encrypted "
        "where it "
        "is stored): read what may change from a secret store in an after-restore hook."
    ]


def test_every_code_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "inspection.md").read_text()
    assert set(re.findall(r"^\| (TS\d{3}) \|", page, re.MULTILINE)) == {*RULES, *CODES}


# --- the diagnosis ----------------------------------------------------------------------------------------------------

REFUSAL = "It cannot be frozen: end it in a hook."
THREADS = [
    Thread(f"w-{number}", number, made=[HERE, THERE], at=[("/usr/lib/x.py", 1, "wait"), HERE]) for number in (3, 4)
]


@pytest.mark.parametrize(
    ("resource", "number", "told"),
    [
        ("descriptor", 5, " It was made in app.py, line 12 (start), called from line 40."),
        ("descriptor", 6, ""),
        ("process", 9, " It was made in app.py, line 12 (start), called from line 40 as 'sleep 3600'."),
        ("process", 10, " It was made in app.py, line 40."),
        ("thread", 3, " Python calls it 'w-3'; it was made in app.py, line 12 (start), called from line 40, and is at "
         "app.py, line 12 (start)."),
        ("thread", 8, ""),
        ("threads", 0, " Most of those that Python knows (2) were made in app.py, line 12 (start)."),
        ("", 0, ""),
    ],
)  # fmt: skip
def test_a_refusal_is_followed_by_where_the_thing_was_made(resource: str, number: int, told: str) -> None:
    report = Report(
        "python3.13", threads=THREADS, sockets=[Socket(5, [HERE, THERE])],
        children=[Child(9, "sleep 3600", [HERE, THERE]), Child(0, "", [THERE])],
    )  # fmt: skip
    error = NotFreezable(REFUSAL, resource=resource, number=number)
    assert str(diagnosed(error, report)) == REFUSAL + told
    assert diagnosed(error, report).resource == resource
    assert diagnosed(error, None) is error
