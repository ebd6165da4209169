"""What a hostile function tries from inside its sandbox."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandboxes import Workshop, call, is_root, running, workshop

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]

# Runs a snippet and returns its value, or the name of the error that it met.
ATTACKER = '''
import ctypes, errno, json, os, signal, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)

def syscall(number, *arguments):
    """0 or the name of the errno."""
    if libc.syscall(number, *arguments) >= 0:
        return 0
    return errno.errorcode[ctypes.get_errno()]

def handler(event, headers):
    scope = dict(globals())
    try:
        exec(event, scope)
        return scope.get("result")
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
'''


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


async def attempt(shop: Workshop, code: str) -> object:
    result = await call(await shop.ready(ATTACKER), code)
    return json.loads(result.payload)


async def test_who_the_function_is(shop: Workshop) -> None:
    code = "result = {l.split(':')[0]: l.split(':')[1].split() for l in open('/proc/self/status')}"
    status = await attempt(shop, code)
    assert isinstance(status, dict)
    assert status["Uid"] == ["200993"] * 4
    assert status["Gid"] == ["200993"] * 4
    assert status["Groups"] == []
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]


async def test_files_of_the_machine_are_not_there(shop: Workshop, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert await attempt(shop, f"open({str(secret)!r})") == "ENOENT"
    for path in ("/root", "/home", "/etc/shadow", "/sys", "/run", "/boot", "/proc/1/root", "/proc/1/environ"):
        assert await attempt(shop, f"os.stat({path!r}); open({path!r})") in ("ENOENT", "EACCES"), path


async def test_no_device_of_the_machine(shop: Workshop) -> None:
    allowed = {"null", "zero", "full", "random", "urandom", "tty", "shm", "fd", "stdin", "stdout", "stderr"}
    assert set(await attempt(shop, "result = os.listdir('/dev')")) == allowed  # type: ignore[call-overload]
    assert await attempt(shop, "os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))") == "EPERM"
    assert await attempt(shop, "os.mknod('/tmp/mem', 0o20666, os.makedev(1, 1))") == "EPERM"


@pytest.mark.parametrize(
    "path", ["/f", "/usr/f", "/etc/f", "/var/task/f", "/var/runtime/f", "/var/lang/f", "/opt/f", "/dev/f"]
)
async def test_only_tmp_can_be_written(shop: Workshop, path: str) -> None:
    assert await attempt(shop, f"open({path!r}, 'w')") in ("EROFS", "EACCES")


async def test_a_set_uid_program_gives_nothing(shop: Workshop) -> None:
    code = "result = [p for p in ('/usr/bin/su', '/usr/bin/mount', '/usr/bin/passwd') if os.path.exists(p)]"
    programs = await attempt(shop, code)
    assert isinstance(programs, list)
    for program in programs:
        code = (
            f"result = subprocess.run(['/usr/bin/env', {program!r}, '--version'], capture_output=True).returncode >= 0"
        )
        assert await attempt(shop, code) is True
    assert await attempt(shop, "os.setuid(0)") == "EPERM"
    assert await attempt(shop, "result = os.statvfs('/usr').f_flag & os.ST_NOSUID") == os.ST_NOSUID


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("mount", "result = libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) and errno.errorcode[ctypes.get_errno()]"),
        ("ptrace", "result = syscall(101, 16, 1, 0, 0)"),
        ("unshare user", "result = syscall(272, 0x10000000)"),
        ("setns", "result = syscall(308, 0, 0)"),
        ("clone with a user namespace", "result = syscall(56, 0x10000011, 0, 0, 0, 0)"),
        ("keyctl", "result = syscall(250, 0, 0, 0, 0)"),
        ("bpf", "result = syscall(321, 0, 0, 0)"),
        ("userfaultfd", "result = syscall(323, 0)"),
        ("io_uring", "result = syscall(425, 1, 0)"),
        ("perf", "result = syscall(298, 0, 0, 0, 0, 0)"),
        ("reading another process", "result = syscall(310, 1, 0, 0, 0, 0, 0)"),
        ("chroot", "result = syscall(161, b'/tmp')"),
        ("open_tree", "result = syscall(428, -100, b'/', 1)"),
        ("handles", "result = syscall(304, 0, 0, 0)"),
        ("hostname", "result = syscall(170, b'x', 1)"),
        ("clock", "result = syscall(227, 0, 0)"),
        ("reboot", "result = syscall(169, 0, 0, 0, 0)"),
    ],
)
async def test_calls_that_are_refused(shop: Workshop, what: str, code: str) -> None:
    assert await attempt(shop, code) == "EPERM", what


async def test_other_processes_are_neither_seen_nor_signalled(shop: Workshop) -> None:
    neighbour = await shop.ready(ATTACKER)
    assert set(await attempt(shop, "result = [n for n in os.listdir('/proc') if n.isdigit()]")) == {"2"}  # type: ignore[call-overload]
    assert await attempt(shop, f"os.kill({os.getpid()}, 9)") == "ESRCH"
    assert await attempt(shop, f"os.kill({neighbour.host_pid}, 9)") == "ESRCH"
    assert await attempt(shop, "os.kill(1, 9)") == "EPERM"
    assert running(neighbour.host_pid)


async def test_killing_everything_reaches_only_the_sandbox(shop: Workshop) -> None:
    neighbour = await shop.ready(ATTACKER)
    result = await call(await shop.ready(ATTACKER), "try:\n    os.kill(-1, 9)\nfinally:\n    os.kill(os.getpid(), 9)")
    assert result.error_type == "Runtime.ExitError"
    assert (await call(neighbour, "result = 7")).payload == b"7"


async def test_the_neighbours_network_is_out_of_reach(shop: Workshop) -> None:
    neighbour, attacker = await shop.ready(ATTACKER), await shop.ready(ATTACKER, timeout_s=20.0)
    own = "s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('198.51.100.1', 9)); result = s.getsockname()[0]"
    if shop.pool.gateway is None:
        pytest.skip("no network for sandboxes on this machine")
    address = json.loads((await call(neighbour, own)).payload)
    listen = "keep = socket.create_server(('0.0.0.0', 8080)); sys.modules['app'].keep = keep"
    await call(neighbour, listen)
    knock = "socket.create_connection(({!r}, {}), 1)"
    for port in (9001, 8080):
        result = json.loads((await call(attacker, knock.format(address, port))).payload)
        assert result in ("EHOSTUNREACH", "ETIMEDOUT", "ECONNREFUSED", "timed out"), port


async def test_loopback_services_of_the_machine_are_out_of_reach(shop: Workshop) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await attempt(shop, f"socket.create_connection(('127.0.0.1', {port}), 1)") == "ECONNREFUSED"
    server.close()


async def test_abstract_sockets_of_the_machine_are_out_of_reach(shop: Workshop) -> None:
    code = "s = socket.socket(socket.AF_UNIX); s.connect('\\0thaw-network-0')"
    assert await attempt(shop, code) == "ECONNREFUSED"


async def test_no_raw_or_packet_sockets(shop: Workshop) -> None:
    assert await attempt(shop, "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)") == "EPERM"
    assert await attempt(shop, "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)") == "EAFNOSUPPORT"
    assert await attempt(shop, "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)") == "EAFNOSUPPORT"


async def test_nothing_of_the_server_is_inherited(shop: Workshop) -> None:
    """Only stdin, the log, and the connection that the client itself has made."""
    links = "{n: os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in os.listdir('/proc/self/fd') if n in '012'}"
    assert await attempt(shop, f"result = {links}") == {"0": "/dev/null", "1": "pipe", "2": "pipe"}
    count = "result = len(os.listdir('/proc/self/fd'))"
    assert await attempt(shop, count) == 5  # the three, the connection, and the folder being listed


RUBBISH = """
kept = sys.modules['app'].kept = []
BAD, LONG = b'GET / HTTP/1.1\\r\\nbad\\r\\n\\r\\n', b'POST / HTTP/1.1\\r\\nContent-Length: 9999999999\\r\\n\\r\\n'
for data in (bytes(70000), BAD, LONG):
    kept.append(socket.create_connection(('127.0.0.1', 9001)))
    kept[-1].sendall(data)
kept += [socket.create_connection(('127.0.0.1', 9001)) for _ in range(200)]
result = 'done'
"""


async def test_the_runtime_api_survives_rubbish(shop: Workshop) -> None:
    neighbour, attacker = await shop.ready(ATTACKER), await shop.ready(ATTACKER, timeout_s=5.0)
    first = await call(attacker, RUBBISH)
    assert first.error_type in (None, "Sandbox.Timedout")
    assert (await call(neighbour, "result = 7")).payload == b"7"


async def test_answers_that_nobody_reads_do_not_fill_the_server(shop: Workshop) -> None:
    code = (
        "s = socket.create_connection(('127.0.0.1', 9001)); s.settimeout(2)\n"
        "try:\n    for _ in range(20000):\n        s.sendall(b'GET /2018-06-01/ping HTTP/1.1\\r\\n\\r\\n' * 100)\n"
        "except OSError as error:\n    result = type(error).__name__\nelse:\n    result = 'endless'"
    )
    attacker = await shop.ready(ATTACKER, timeout_s=20.0, memory_mib=1769)
    assert (await call(attacker, code)).error_type is None
