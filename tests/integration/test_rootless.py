"""`thaw serve` by an ordinary user: a real server without root, a real function, and sentences for what is missing."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served, Traces, served, share_runtimes
from thaw.cli.process import ServerProcess
from thaw.environment.rootless import NO_SNAPSHOTS, WARNINGS
from thaw.runtimes import Runtimes

pytestmark = [
    pytest.mark.root,
    pytest.mark.package_index,
    pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user is made out of root"),
]

NOBODY = 65534
BASE = Path(sys.base_prefix)
RUNTIME = f"python3.{sys.version_info.minor}"

SOURCE = """
import ctypes, errno, os, socket

libc = ctypes.CDLL(None, use_errno=True)

def attempt(work):
    try:
        return work()
    except OSError as error:
        return errno.errorcode[error.errno]

def handler(event, context):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    with open("/tmp/file", "w") as file:
        file.write("kept")
    libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
    return {"event": event, "capabilities": [status[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")],
            "seccomp": status["Seccomp"].strip(), "no_new_privileges": status["NoNewPrivs"].strip(),
            "mount": errno.errorcode[ctypes.get_errno()], "task": attempt(lambda: open("/var/task/new", "w")),
            "processes": [name for name in os.listdir("/proc") if name.isdigit()],
            "home": attempt(lambda: os.listdir("/root")), "null": os.path.exists("/dev/null"),
            "kill": attempt(lambda: os.kill(1, 9)), "host": socket.gethostname()}
"""


def ordinary(folder: Path) -> Path:
    """A stand-in for the interpreter: it runs as an ordinary user, who is let into its folder even where that is
    root's alone."""
    closed = next((each for each in reversed(BASE.parents) if not each.stat().st_mode & 0o001), None)
    reveal = ""
    if closed is not None:
        kept = folder / "base"
        kept.mkdir()
        reveal = (
            f"mount --bind {BASE} {kept} && mount -t tmpfs -o mode=755 tmpfs {closed} && mkdir -p {BASE} "
            f"&& mount --bind {kept} {BASE} && "
        )
    become = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
    environment = f"env HOME={folder}/home PATH={BASE}/bin:/usr/bin:/bin"
    script = f'{reveal}exec {become} {environment} {sys.executable} "$@"'
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec unshare --mount sh -c {shlex.quote(script)} sh "$@"\n')
    program.chmod(0o755)
    (folder / "home").mkdir()
    os.chown(folder / "home", NOBODY, NOBODY)
    return program


def can_be_ordinary(program: Path) -> str:
    """Why it cannot be tried here; empty where it can."""
    code = "from thaw.environment.rootless import enter; enter(); print('entered')"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    return "" if done.stdout == "entered\n" else (done.stderr.strip().splitlines() or ["nothing was said"])[-1]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter, which those of pytest are not."""
    made = Path(tempfile.mkdtemp(prefix="thaw-rootless-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def program(folder: Path) -> Path:
    made = ordinary(folder)
    if reason := can_be_ordinary(made):
        pytest.skip(f"no server of an ordinary user can be tried here: {reason}")
    return made


def test_an_ordinary_user_serves_functions(folder: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = folder / "state"
    share_runtimes(state)
    asyncio.run(Runtimes(state, folders=[BASE / "bin"]).find(RUNTIME))
    for each in (state, *state.iterdir()):
        os.chown(each, NOBODY, NOBODY, follow_symlinks=False)
    monkeypatch.setattr(sys, "executable", str(program))
    with served(state) as running:
        assert _owner(running.process) == NOBODY
        server = Served(running.process, state, running.client, RUNTIME)
        server.create("plain", SOURCE, SnapStart={"ApplyOn": "PublishedVersions"}, Timeout=20)
        _check(server.call("plain", {"a": 1}).payload)
        version = server.publish("plain")
        found = server.client.get_function_configuration(FunctionName="plain", Qualifier=version)
        assert (found["State"], found["StateReason"]) == ("Active", NO_SNAPSHOTS)
        assert found["SnapStart"]["OptimizationStatus"] == "Off"
        reply = server.call("plain", {"a": 1}, version)
        _check(reply.payload)
        assert "Restore Duration" not in reply.log
        said = running.process.log.read_text()
        traces = Traces.of(running.process.pid)
    traces.assert_gone()
    assert WARNINGS[0] in said
    assert "Functions have only their loopback." in said


def _owner(process: ServerProcess) -> int:
    return Path(f"/proc/{process.pid}").stat().st_uid


def _check(answer: dict[str, object]) -> None:
    assert answer["event"] == {"a": 1}
    assert answer["capabilities"] == ["0" * 16] * 3
    assert (answer["seccomp"], answer["no_new_privileges"]) == ("2", "1")
    assert answer["mount"] == "EPERM"
    assert answer["task"] == "EROFS"
    assert answer["home"] == "ENOENT"
    assert answer["null"] is True
    assert answer["host"] == "thaw"


def test_doctor_says_what_is_missing_and_what_that_costs(program: Path) -> None:
    command = [program, "-m", "thaw.cli", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    for sentence in (
        "less root This is an ordinary user: functions run in a user namespace, with what follows less.",
        "ok namespaces Functions get a file tree and namespaces of their own, in a user namespace.",
        "less control groups Without root functions have no limits of memory and processor time, and are not stopped "
        "between calls.",
        "less network Without root functions have their loopback only.",
        "less snapshots Without root versions have no snapshots: each of their environments starts afresh and takes "
        "its Init's time.",
    ):
        assert sentence in said


def test_where_user_namespaces_are_not_permitted_the_server_says_so(folder: Path, program: Path) -> None:
    """A namespace in which the limit of user namespaces is none stands for a machine that permits none."""
    code = (
        "import ctypes; libc = ctypes.CDLL(None); assert libc.unshare(0x10000000) == 0\n"
        "open('/proc/sys/user/max_user_namespaces', 'w').write('0')\n"
        "from thaw.cli import main\n"
        "import sys; sys.argv = ['thaw', 'serve', '--port', '0', '--state-dir', sys.argv[1]]; main()"
    )
    state = folder / "home" / "state"
    done = subprocess.run([program, "-c", code, str(state)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "thaw: Thaw was started by an ordinary user, and this machine permits no user namespaces (No space left on "
        "device): start it as root, or permit them (user.max_user_namespaces, kernel.unprivileged_userns_clone, "
        "AppArmor)."
    )
