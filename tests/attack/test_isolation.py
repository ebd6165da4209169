"""What a hostile function does to use up the machine, to learn of it, and to reach what is not its own."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from attack.test_escape import ATTACKER, attempt
from sandboxes import Workshop, call, is_root, workshop
from serving import links_of, start_of
from thaw.environment.egress import read_egress

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_root(), reason="sandboxes need root")]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


# --- using up the machine ---------------------------------------------------------------------------------------------

FORK_BOMB = """
import time
result = 0
while result < 5000:
    try:
        if os.fork() == 0:
            time.sleep(600)
    except BlockingIOError:
        break
    result += 1
"""


async def test_a_fork_bomb_ends_at_the_process_limit(shop: Workshop) -> None:
    neighbour, attacker = await shop.ready(ATTACKER), await shop.ready(ATTACKER, timeout_s=60.0, memory_mib=3008)
    children = json.loads((await call(attacker, FORK_BOMB)).payload)
    assert 900 < children < 1024  # Lambda's limit of processes and threads
    assert (await call(neighbour, "result = 7")).payload == b"7"
    processes = {pid: start_of(pid) for pid in attacker.processes()}
    assert len(processes) > 500
    await attacker.close()
    assert not [pid for pid, start in processes.items() if start and start_of(pid) == start]


async def test_a_memory_bomb_ends_its_own_environment_only(shop: Workshop) -> None:
    neighbour, attacker = await shop.ready(ATTACKER), await shop.ready(ATTACKER, timeout_s=60.0, memory_mib=128)
    result = await call(attacker, "kept = []\nwhile True:\n    kept.append(bytearray(b'x') * (8 << 20))")
    assert result.error_type == "Runtime.OutOfMemory"
    assert (await call(neighbour, "result = 7")).payload == b"7"


FILL = """
written = 0
result = None
try:
    with open({path!r}, "wb") as file:
        while written < 1 << 30:
            written += file.write(bytes(1 << 20))
except OSError as error:
    result = [errno.errorcode[error.errno], written >> 20]
finally:
    os.path.exists({path!r}) and os.unlink({path!r})
"""


async def test_filling_the_disk_ends_at_the_size_of_tmp(shop: Workshop) -> None:
    attacker = await shop.ready(ATTACKER, timeout_s=60.0, ephemeral_mib=64, memory_mib=512)
    failed, mib = json.loads((await call(attacker, FILL.format(path="/tmp/big"))).payload)
    assert failed == "ENOSPC"
    assert 60 <= mib <= 64


async def test_an_endless_log_ends_at_its_limit(shop: Workshop) -> None:
    attacker = await shop.ready(ATTACKER, timeout_s=60.0, memory_mib=1769)
    line = "x" * 1023
    assert (await call(attacker, f"for _ in range(16 << 10): print({line!r})\nresult = 7")).payload == b"7"
    attacker.log.close()
    size = sum(file.stat().st_size for file in (shop.folder / "logs").rglob("*.log"))
    assert size < 2 * shop.pool.worker.log_limit


# --- learning of the machine ------------------------------------------------------------------------------------------

MASKED = ("cmdline", "config.gz", "interrupts", "iomem", "kallsyms", "kcore", "key-users", "keys", "kmsg", "timer_list")


@pytest.mark.parametrize("name", MASKED)
async def test_what_proc_tells_of_the_machine_is_masked(shop: Workshop, name: str) -> None:
    assert await attempt(shop, f"result = len(open('/proc/{name}', 'rb').read(4096))") in (
        0,
        "ENOENT",
        "EACCES",
        "EPERM",
    )


async def test_settings_of_the_kernel_cannot_be_written(shop: Workshop) -> None:
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/ns_last_pid"):
        assert await attempt(shop, f"open({path!r}, 'w')") in ("EROFS", "EACCES", "ENOENT"), path
    assert await attempt(shop, "open('/proc/sysrq-trigger', 'w').write('h')") in (None, "ENOENT", "EACCES", "EROFS")
    code = "result = [l.split()[3].split(',')[0] for l in open('/proc/self/mounts') if l.split()[1] == '/proc/sys']"
    assert await attempt(shop, code) == ["ro"]


async def test_every_root_but_tmp_and_shared_memory_is_read_only(shop: Workshop) -> None:
    code = (
        "result = sorted({l.split()[1] for l in open('/proc/self/mounts') if 'ro' not in l.split()[3].split(',')}"
        " - {'/proc'} - {'/proc/' + n for n in " + repr([*MASKED, "ioports", "locks", "modules", "sched_debug",
                                                         "latency_stats", "sysrq-trigger"]) + "})"
    )  # fmt: skip
    writable = await attempt(shop, code)
    assert isinstance(writable, list)
    assert set(writable) <= {"/tmp", "/dev/shm"}


# --- reaching what is another's ---------------------------------------------------------------------------------------


async def test_a_token_is_of_no_use_in_another_environment(shop: Workshop) -> None:
    theirs, ours = secrets.token_hex(16), secrets.token_hex(16)
    given: dict[str, Any] = {"initialization_type": "snap-start"}
    await shop.launched("import time\ntime.sleep(600)", credentials_token=theirs, **given)
    attacker = await shop.launched(ATTACKER.replace("def handler", _BEFORE + "def handler"), credentials_token=ours,
                                   variables={"THEIRS": theirs, "OURS": ours}, **given)  # fmt: skip
    await attacker.initialised(20.0)
    log = await _line(shop, "tried")
    assert json.loads(log.partition("tried ")[2]) == {"theirs": 404, "none": 404, "ours": True}


_BEFORE = """
import urllib.request, urllib.error
def ask(token):
    request = urllib.request.Request("http://127.0.0.1:9001/2021-04-23/credentials", headers=token)
    try:
        return "AccessKeyId" in json.load(urllib.request.urlopen(request, timeout=10))
    except urllib.error.HTTPError as error:
        return error.code
told = {"theirs": ask({"Authorization": os.environ["THEIRS"]}), "none": ask({}),
        "ours": ask({"Authorization": os.environ["OURS"]})}
print("tried", json.dumps(told), flush=True)

"""


async def _line(shop: Workshop, word: str) -> str:
    """The first line of any log with `word`; logs are written a moment later."""
    for _ in range(200):
        for file in (shop.folder / "logs").rglob("*.log"):
            for line in file.read_text().splitlines():
                if word in line:
                    return line
        await asyncio.sleep(0.05)
    raise AssertionError(f"no log has {word!r}")


async def test_the_variables_of_another_environment_cannot_be_read(shop: Workshop) -> None:
    secret = secrets.token_hex(16)
    await shop.ready(ATTACKER, variables={"SECRET": secret})
    code = (
        "found = []\nfor root, _, files in os.walk('/proc'):\n    for name in files:\n"
        "        if name == 'environ':\n            try: found.append(open(os.path.join(root, name)).read())\n"
        "            except OSError: pass\nresult = found"
    )
    seen = await attempt(shop, code)
    assert isinstance(seen, list)
    assert seen
    assert not any(secret in text for text in seen)


# --- the egress policy ------------------------------------------------------------------------------------------------


LOOPBACK = 1  # the number of lo in every network namespace


@contextmanager
def listening_on(address: str) -> Iterator[int]:
    """A listener of this machine at an address that it gets for a while; its port."""
    with ThreadPoolExecutor(1) as thread:  # pyroute2 wants a thread without an event loop
        thread.submit(_change_address, "add", address).result()
        try:
            with socket.create_server((address, 0)) as server:
                yield server.getsockname()[1]
        finally:
            thread.submit(_change_address, "del", address).result()


def _change_address(change: str, address: str) -> None:
    with IPRoute() as routing:
        routing.addr(change, index=LOOPBACK, address=address, prefixlen=32)


@asynccontextmanager
async def shop_with(folder: Path, egress: str) -> AsyncIterator[Workshop]:
    async with workshop(folder, egress=read_egress(egress)) as made:
        if made.pool.gateway is None:
            pytest.skip("no network for sandboxes on this machine")
        yield made


async def reach(shop: Workshop, address: str, port: int) -> bool:
    code = (
        f"try:\n    socket.create_connection(({address!r}, {port}), 3).close(); result = True\n"
        "except OSError as error:\n    result = type(error).__name__"
    )
    answer = json.loads((await call(await shop.ready(ATTACKER, timeout_s=20.0), code)).payload)
    assert answer in (True, "TimeoutError", "timeout"), answer
    return answer is True


def link_local() -> str:
    """An address like those of metadata services, which nobody here has."""
    return f"169.254.{secrets.randbelow(100) + 20}.{secrets.randbelow(250) + 2}"


async def test_metadata_addresses_are_out_of_reach_unless_asked_for(tmp_path: Path) -> None:
    address = link_local()
    with listening_on(address) as port:
        async with shop_with(tmp_path, "all") as shop:
            assert await reach(shop, address, port), "the listener can be reached at all"
        async with shop_with(tmp_path, "guarded") as shop:
            assert not await reach(shop, address, port)
            assert shop.pool.gateway is not None
            with socket.create_server((shop.pool.gateway, 0)) as other:
                assert await reach(shop, shop.pool.gateway, other.getsockname()[1])


async def test_only_listed_networks_are_within_reach(tmp_path: Path) -> None:
    listed, unlisted = link_local(), link_local()
    assert listed != unlisted
    with listening_on(listed) as port, listening_on(unlisted) as other:
        async with shop_with(tmp_path, f"{listed}/32, 203.0.113.0/24") as shop:
            assert await reach(shop, listed, port)
            assert not await reach(shop, unlisted, other)
            assert shop.pool.gateway is not None
            with socket.create_server((shop.pool.gateway, 0)) as own:
                assert not await reach(shop, shop.pool.gateway, own.getsockname()[1])


async def test_this_machine_is_not_reached_over_ipv6(shop: Workshop) -> None:
    if shop.pool.gateway is None:
        pytest.skip("no network for sandboxes on this machine")
    addresses = Path("/proc/net/if_inet6")
    held = {line.split()[-1] for line in addresses.read_text().splitlines()} if addresses.exists() else set()
    (own,) = links_of(os.getpid())
    assert own not in held


@pytest.mark.parametrize("text", ["guarded", "all", "10.0.0.0/8", "10.0.0.0/8, 192.0.2.7/32"])
def test_the_setting_is_read(text: str) -> None:
    egress = read_egress(text)
    assert egress.link_local == (text == "all")
    networks = [ipaddress.IPv4Network(each.strip()) for each in text.split(",")] if "/" in text else None
    assert (None if egress.only is None else list(egress.only)) == networks
