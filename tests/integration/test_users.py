"""User namespaces of sandboxes: numbers that nobody else has, and what is said where there can be none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxes import call, is_root, workshop
from thaw.cli import doctor
from thaw.environment import users
from thaw.environment.users import BLOCK, FIRST_NUMBER, FUNCTION_UID, Users
from thaw.errors import SandboxError
from thaw.restore import unpack_folder
from thaw.snapshot.disk import pack_folder
from thaw.snapshot.users import Numbers, Owners

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]


@pytest.fixture(scope="module", autouse=True)
def _permitted() -> None:
    found = doctor.user_namespaces()
    if found.verdict != "ok":
        pytest.skip(f"this machine permits sandboxes no user namespaces: {found.sentence}")


WHO = """
import os
def handler(event, headers):
    with open("/tmp/made", "w"):
        pass
    return [os.getuid(), os.stat("/tmp/made").st_uid, os.stat("/usr").st_uid, open("/proc/self/uid_map").read().split()]
"""
NONE_SENTENCE = (
    "Functions have no user namespaces, so that all of them are user 200993 of this machine and PID 1 of their "
    "sandboxes is its root, because one could not be made ({}): permit them (user.max_user_namespaces, and every user "
    "number where Thaw runs in a container)."
)
# No map takes this number, nor a higher one (user_namespaces(7)).
IMPOSSIBLE = 0xFFFF_FFFF


# A machine, as far as the user namespace that it is can be one, which permits none.
SWITCHED_OFF = """
import ctypes, sys
assert ctypes.CDLL(None).unshare(0x10000000 | 0x00020000) == 0
print("made", flush=True)
sys.stdin.readline()
open("/proc/sys/user/max_user_namespaces", "w").write("0")
from thaw.cli import doctor
found = doctor.user_namespaces()
print(found.verdict, found.sentence, flush=True)
"""


def test_user_namespaces_that_are_switched_off_are_a_sentence() -> None:
    command = [sys.executable, "-c", SWITCHED_OFF]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "made\n"
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child.pid}/{name}").write_text("0 0 4294967295\n")
        said, _ = child.communicate("go on\n")
    reason = "The sandbox stopped at unshare of users: No space left on device"
    assert said == f"less {NONE_SENTENCE.format(reason)}\n"


def test_servers_on_one_machine_have_different_numbers() -> None:
    first, second = Users(), Users()
    try:
        assert first.root != second.root
        one, other = first.take(), second.take()
        for given, own in ((one, first), (other, second)):
            assert own.root < given.user < own.root + BLOCK
            assert (own.root - FIRST_NUMBER) % BLOCK == 0
        first.give_back(one)
        assert first.take() != one, "a number rests before it is used again"
    finally:
        first.close()
        second.close()


def test_what_a_server_holds_is_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Users().close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_numbers_are_given_back(tmp_path: Path) -> None:
    async with workshop(tmp_path) as shop:
        environment = await shop.ready(WHO)
        answer = json.loads((await call(environment)).payload)
        user = os.stat(f"/proc/{environment.host_pid}").st_uid
        assert answer[:3] == [FUNCTION_UID, FUNCTION_UID, 0]
        assert answer[3][-3:] == [str(FUNCTION_UID), str(user), "1"]
        kept = shop.pool._users
        assert kept is not None
        assert user not in kept._free
        await environment.close()
        assert kept._free[-1] == user


async def test_without_user_namespaces_functions_run_and_the_server_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "FIRST_NUMBER", IMPOSSIBLE)
    monkeypatch.setattr(users, "BLOCK", 0)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SandboxError) as refusal:
        Users()
    assert len(os.listdir("/proc/self/fd")) == before
    sentence = NONE_SENTENCE.format(str(refusal.value).rstrip("."))
    async with workshop(tmp_path, network=False) as shop:
        assert shop.pool.warnings == [sentence]
        answer = json.loads((await call(await shop.ready(WHO))).payload)
        assert answer == [FUNCTION_UID, FUNCTION_UID, 0, ["0", "0", "4294967295"]]


def test_doctor_tries_user_namespaces_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.user_namespaces()
    assert (found.verdict, found.sentence) == (
        "ok",
        "Each environment is a user of its own, and nothing in it is root here.",
    )
    monkeypatch.setattr(users, "FIRST_NUMBER", IMPOSSIBLE)
    monkeypatch.setattr(users, "BLOCK", 0)
    with pytest.raises(SandboxError) as refusal:
        Users()
    found = doctor.user_namespaces()
    assert (found.verdict, found.sentence) == ("less", NONE_SENTENCE.format(str(refusal.value).rstrip(".")))


async def test_a_file_system_that_cannot_show_owners_is_mounted_all_the_same(tmp_path: Path) -> None:
    """/proc takes no map of owners: what is root's there is nobody's inside."""
    code = 'import os\ndef handler(event, headers):\n    return os.stat("/opt/version").st_uid'
    async with workshop(tmp_path) as shop:
        environment = await shop.ready(code, layers=Path("/proc"))
        assert (await call(environment)).payload == b"65534"


def test_owners_are_stored_as_the_function_sees_them(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    given = {"function": 1_900_000_001, "root": 1_900_000_000, "stranger": 4711}
    for name, number in given.items():
        (source / name).write_text(name)
        os.chown(source / name, number, number)
    numbers = Numbers(((0, 1_900_000_000, 1), (FUNCTION_UID, 1_900_000_001, 1)))
    packed = pack_folder(str(source), Owners(numbers, numbers))
    unpack_folder(packed, target, {0: 1_800_000_000, FUNCTION_UID: 1_800_000_005})
    found = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in target.iterdir()}
    assert found == {
        "function": (1_800_000_005, 1_800_000_005), "root": (1_800_000_000, 1_800_000_000), "stranger": (65534, 65534),
    }  # fmt: skip
