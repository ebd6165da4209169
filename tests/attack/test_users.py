"""What a hostile function would be on the machine if it got out of its sandbox, or became its root."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from attack.test_escape import ATTACKER
from sandboxes import Workshop, call, is_root, running, workshop
from thaw.environment.execution import Environment

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]

# A function that broke every fence but this one: root, with every capability, of its sandbox's user namespace, and with
# this machine's files and processes before it.
ESCAPED = """
import ctypes, errno, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
sandbox, wanted = int(sys.argv[1]), json.loads(sys.argv[2])
namespace = os.open(f"/proc/{sandbox}/ns/user", os.O_RDONLY)
assert libc.setns(namespace, 0x10000000) == 0
os.setgroups([]); os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)

def tried(code):
    try:
        return eval(code)
    except OSError as error:
        return errno.errorcode[error.errno]

effective = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff"))
print(json.dumps({"capable": int(effective, 16) != 0, **{name: tried(code) for name, code in wanted.items()}}))
"""
_NS_GET_OWNER_UID = 0xB704  # linux/nsfs.h


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        if made.pool.warnings and "user namespaces" in " ".join(made.pool.warnings):
            pytest.skip(f"no user namespaces for sandboxes here: {made.pool.warnings}")
        yield made


async def escaped(environment: Environment, wanted: Mapping[str, str]) -> dict[str, Any]:
    """What the root of an environment's user namespace can do on this machine; errors by their names."""
    command = [sys.executable, "-c", ESCAPED, str(environment.host_pid), json.dumps(wanted)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    answer: dict[str, Any] = json.loads(output)
    assert answer.pop("capable") is True
    return answer


def user_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}").st_uid


async def test_each_environment_is_another_user_and_none_is_root(shop: Workshop) -> None:
    first, second = await shop.ready(ATTACKER), await shop.ready(ATTACKER)
    users = {user_of(first.host_pid), user_of(second.host_pid)}
    assert len(users) == 2
    users |= {user_of(environment._sandbox.init_pid) for environment in (first, second)}
    assert len(users) == 4
    assert not users & {0, os.getuid(), 65534}
    spaces = {os.readlink(f"/proc/{each.host_pid}/ns/user") for each in (first, second)}
    assert len(spaces | {os.readlink("/proc/self/ns/user")}) == 3


async def test_the_map_holds_three_numbers_and_no_root(shop: Workshop) -> None:
    attacker = await shop.ready(ATTACKER)
    for kind in ("uid", "gid"):
        lines = [line.split() for line in Path(f"/proc/{attacker.host_pid}/{kind}_map").read_text().splitlines()]
        assert [(first, count) for first, _, count in lines] == [("0", "1"), ("200992", "1"), ("200993", "1")]
        assert all(int(number) >= 0x7000_0000 for _, number, _ in lines)
        assert int(lines[2][1]) == user_of(attacker.host_pid)
    code = "os.write(os.open('/proc/self/uid_map', os.O_WRONLY), b'0 0 1')"
    assert json.loads((await call(attacker, code)).payload) in ("EPERM", "EACCES")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, so that what stops somebody is its files."""
    with tempfile.TemporaryDirectory(prefix="thaw-open-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


async def test_root_of_a_sandbox_is_nobody_on_the_machine(shop: Workshop, open_folder: Path) -> None:
    secret, ours = open_folder / "secret", open_folder / "ours"
    secret.write_text("x")
    secret.chmod(0o600)
    ours.write_text("x")
    ours.chmod(0o644)
    environment = await shop.ready(ATTACKER)
    said = await escaped(environment, {
        "read a secret of root": f"open({str(secret)!r}).read()",
        "write a file of root": f"open({str(ours)!r}, 'a').write('x')",
        "remove it": f"os.unlink({str(ours)!r})",
        "take it": f"os.chown({str(ours)!r}, 0, 0)",
        "write to /usr": "open('/usr/thaw-attack', 'w')",
        "read /etc/shadow": "open('/etc/shadow').read()",
        "read the server's variables": f"open('/proc/{os.getpid()}/environ').read()",
        "mount": "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) and errno.errorcode[ctypes.get_errno()]",
        "set the clock": "libc.settimeofday(None, bytes(8)) and errno.errorcode[ctypes.get_errno()]",
        "become user 1": "os.setuid(1)",
    })  # fmt: skip
    assert said == {
        "read a secret of root": "EACCES", "write a file of root": "EACCES", "remove it": "EACCES", "take it": "EPERM",
        "write to /usr": "EACCES", "read /etc/shadow": "EACCES", "read the server's variables": "EACCES",
        "mount": "EPERM", "set the clock": "EPERM", "become user 1": "EINVAL",
    }  # fmt: skip
    assert ours.read_text() == "x"


async def test_root_of_a_sandbox_kills_nobody_elses_processes(shop: Workshop) -> None:
    attacker, neighbour = await shop.ready(ATTACKER), await shop.ready(ATTACKER)
    said = await escaped(attacker, {
        "neighbour": f"os.kill({neighbour.host_pid}, 9)", "its sandbox": f"os.kill({neighbour._sandbox.init_pid}, 9)",
        "server": f"os.kill({os.getpid()}, 9)", "own": f"os.kill({attacker.host_pid}, 0)",
        "look into": f"open('/proc/{neighbour.host_pid}/mem', 'rb')",
    })  # fmt: skip
    assert said == {"neighbour": "EPERM", "its sandbox": "EPERM", "server": "EPERM", "own": None, "look into": "EACCES"}
    assert running(neighbour.host_pid)
    assert json.loads((await call(neighbour, "result = 7")).payload) == 7


WATCHES = """
made = []
try:
    while len(made) < 900:
        made.append(libc.inotify_init())
        if made[-1] < 0:
            break
finally:
    for number in made:
        number >= 0 and {release}
result = len(made)
"""


async def test_what_counts_for_a_user_is_used_up_for_one_environment_only(shop: Workshop) -> None:
    """fs.inotify.max_user_instances and the like count users; the machine's root must not pay either."""
    attacker, neighbour = await shop.ready(ATTACKER), await shop.ready(ATTACKER)
    await call(attacker, WATCHES.format(release="sys.modules['app'].__dict__.setdefault('kept', []).append(number)"))
    assert json.loads((await call(neighbour, "result = libc.inotify_init() >= 0")).payload) is True
    space = os.open(f"/proc/{attacker.host_pid}/ns/user", os.O_RDONLY)
    try:
        owner = int.from_bytes(fcntl.ioctl(space, _NS_GET_OWNER_UID, bytes(4)), sys.byteorder)
    finally:
        os.close(space)
    assert owner == user_of(attacker.host_pid)


async def test_no_process_of_the_machine_is_under_the_sandboxs_proc(shop: Workshop) -> None:
    """A /proc inside needs one to be mounted on; what lies under it shows no process, should it ever be uncovered."""
    attacker = await shop.ready(ATTACKER)
    code = (
        "lines = [line.split() for line in open('/proc/self/mountinfo')]\n"
        "result = [line[2] for line in lines if line[4] == '/proc']"
    )
    under, top = json.loads((await call(attacker, code)).payload)
    machine = [line.split()[2] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " /proc " in line]
    assert under != top
    assert not {under, top} & set(machine)
