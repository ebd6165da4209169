"""What Python reports of its process before the snapshot, and how the platform reads it."""

import os

import pytest

from thaw.publish.report import Report, made_text, place_text, read_report
from unit.small_runtime_api import RuntimeApi, Start, call

pytestmark = pytest.mark.package_index

HANDLER = """
import os, random, socket, subprocess, sys, threading

class Pool:
    def __init__(self):
        self.numbers = random.Random(4)

def start(count):
    for number in range(count):
        threading.Thread(target=stop.wait, name="worker-%d" % number, daemon=True).start()

stop = threading.Event()
pool = Pool()
system = random.SystemRandom()
table = bytearray(3 << 20)
plain = socket.socket()
closed = socket.socket(); closed.close()
start(2)
child = subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

def handler(event, context):
    child.stdin.close()
    return child.wait()
"""


def reported(start: Start, api: RuntimeApi, code: str, **variables: str) -> Report:
    start(code, **variables)
    assert api.in_restore_next.wait(30)
    (content,) = api.reports
    report = read_report(content)
    assert report is not None
    return report


def test_a_report_names_things_and_where_they_were_made(start: Start, api: RuntimeApi) -> None:
    report = reported(start, api, HANDLER, DB_PASSWORD="hidden")
    api.release.set()
    workers = [one for one in report.threads if one.name.startswith("worker")]
    assert [place[1:] for place in workers[0].made] == [(10, "start"), (18, "<module>")]
    assert workers[0].daemon
    assert workers[0].at[0][0].endswith("threading.py")
    assert [one.name for one in report.threads if one.main] == ["MainThread"]
    assert [one.made[0][1] for one in report.sockets] == [16]
    (child,) = [one for one in report.children if one.number]
    assert child.command.endswith("-S -c import sys; sys.stdin.read()")
    assert child.made[0][1] == 19
    assert report.generators == [("random.Random", "function.pool.numbers")]
    assert ("bytearray", (3 << 20) + 57, "function.table") in report.largest
    assert "DB_PASSWORD" in report.variables
    assert b"hidden" not in api.reports[0]


def test_a_report_counts_objects_by_type(start: Start, api: RuntimeApi) -> None:
    code = "class Row:\n    pass\nrows = [Row() for _ in range(2000)]\ndef handler(event, context): pass\n"
    report = reported(start, api, code + "names = ['name %d' % n for n in range(5000)]\n")
    counts = {kind: count for kind, count, _ in report.types}
    assert counts["function.Row"] == 2000
    assert counts["str"] > 5000, "strings are known to the garbage collector only through what holds them"
    assert report.complete
    assert report.total[0] >= sum(counts.values())


def test_objects_that_the_function_hid_from_the_collector_are_counted(start: Start, api: RuntimeApi) -> None:
    code = "import gc, random\nclass Row:\n    pass\nrows = [Row() for _ in range(2000)]\nrng = random.Random()\n"
    code += "gc.freeze()\ncount = gc.get_freeze_count()\n"
    code += "def handler(event, context): return [count, gc.get_freeze_count(), gc.isenabled()]\n"
    report = reported(start, api, code)
    assert {kind: count for kind, count, _ in report.types}["function.Row"] == 2000
    assert report.generators == [("random.Random", "function.rng")]
    api.release.set()
    before, after, enabled = call(api)
    assert after >= before > 2000
    assert enabled


def test_functions_without_snapstart_report_nothing(start: Start, api: RuntimeApi) -> None:
    start("def handler(event, context): return 1\n", kind="on-demand")
    api.events.put({})
    assert api.next_posted()[0] == "invocation/request-1/response"
    assert api.reports == []


def test_a_report_that_cannot_be_made_does_not_fail_the_publish(start: Start, api: RuntimeApi) -> None:
    process = start("import thaw_report\nthaw_report.make_report = None\ndef handler(event, context): pass\n")
    assert api.in_restore_next.wait(30)
    assert api.reports == []
    api.release.set()
    api.events.put(None)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == (
        "Thaw could not look into the process before the snapshot: TypeError(\"'NoneType' object is not callable\")\n"
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"language": 3}', b'{"language": "x", "threads": [{}]}', os.urandom(64)]
)
def test_what_is_no_report_is_not_used(content: bytes) -> None:
    assert read_report(content) is None


def test_places_are_told_as_people_would() -> None:
    here, there = ("/var/task/app.py", 12, "connect"), ("/var/task/app.py", 40, "<module>")
    assert place_text(here) == "app.py, line 12 (connect)"
    assert made_text([]) == ""
    assert made_text([there]) == "made in app.py, line 40"
    assert made_text([here, there]) == "made in app.py, line 12 (connect), called from line 40"
    redis = ("/opt/python/redis/connection.py", 700, "connect")
    assert made_text([redis, here, there]) == (
        "made in /opt/python/redis/connection.py, line 700 (connect), called from app.py, line 40"
    )
