"""`make bench`: the suite "sandbox" - what a sandbox from the pool adds to a restore.

Clones of one frozen Python process are made in turn (A B A B ...): into a ready sandbox, as the server does it, with
its mounts, its user, no capability and the whole seccomp filter; and bare: as root, in this machine's own namespaces
but for the template's files and for process numbers, of which a clone has to find its own free. The clock runs from
the order to the first answer of the clone.
"""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from matrix import harness
from thaw.cli.figures import quantile, record, write_records
from thaw.restore import Template

pytestmark = [
    pytest.mark.bench,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root"),
]

SUITE = "sandbox"
ROUNDS = 60
PROGRAM = "registers"
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / f"{SUITE}.json"
ALLOW_ALL = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)  # one instruction: the plan loads some filter in any case


@asynccontextmanager
async def bare(template: Template) -> AsyncIterator[int]:
    """A pidfd of a process that shares all namespaces with this one but those of process numbers and files."""
    files = ["nsenter", "--target", str(template.pid), "--mount"]
    holder = subprocess.Popen(
        [*files, "unshare", "--pid", "--fork", "--kill-child", "sleep", "600"], stderr=subprocess.DEVNULL
    )
    try:
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        while not (found := children.read_text().split()):
            await asyncio.sleep(0.001)
        pidfd = os.pidfd_open(int(found[0]))
        try:
            yield pidfd
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
    finally:
        holder.kill()
        await asyncio.to_thread(holder.wait)


async def answered_bare(template: Template) -> float:
    """Milliseconds from the order to the first answer of a bare clone."""
    async with bare(template) as pidfd:
        log = os.open(os.devnull, os.O_WRONLY)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        request = harness.CloneRequest(pidfd, theirs.fileno(), log, None, 0, 0, ALLOW_ALL)
        with ours:
            began = time.perf_counter()
            cloned = await template.clone(request)
            theirs.close()
            answer = await _check(ours)
            elapsed_ms = (time.perf_counter() - began) * 1e3
            signal.pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
            await asyncio.to_thread(os.waitid, os.P_PIDFD, cloned.pidfd, os.WEXITED)
            os.close(cloned.pidfd)
        os.close(log)
    assert answer, "the clone answers"
    return elapsed_ms


async def answered_in_sandbox(template: Template, on: harness.Ground, folder: Path, name: str, disk: bytes) -> float:
    """The same in a sandbox that was ready before."""
    async with harness.box(on, folder, name) as found:
        await asyncio.sleep(0.05)  # a pooled sandbox has long come to rest
        began = time.perf_counter()
        ended = 0.0

        async def note(box: harness.Box) -> object:
            nonlocal ended
            assert box.connection is not None
            answer = await _check(box.connection)
            ended = time.perf_counter()
            return answer

        _, answer = await harness.thawed(template, found, disk, asked=note)
    assert answer, "the clone answers"
    return (ended - began) * 1e3


async def _check(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    await loop.sock_sendall(connection, b"check\n")
    return await loop.sock_recv(connection, 65536)


async def test_what_a_sandbox_adds_to_a_restore(tmp_path: Path) -> None:
    inside: list[float] = []
    outside: list[float] = []
    async with AsyncExitStack() as stack:
        on = stack.enter_context(harness.ground())
        original = await stack.enter_async_context(harness.box(on, tmp_path, "original"))
        await harness.start(original, PROGRAM)
        capture = await harness.frozen(original)
        stack.callback(os.close, capture.memory)
        template = await harness.template_of(on, capture)
        stack.push_async_callback(template.close)
        for index in range(ROUNDS):
            inside.append(await answered_in_sandbox(template, on, tmp_path, f"{index}", capture.disk))
            outside.append(await answered_bare(template))
    added = [one - other for one, other in zip(inside, outside, strict=True)]
    ran_with = {"kernel": platform.release(), "processors": os.cpu_count(), "python": platform.python_version()}
    cases = {"in_sandbox": inside, "bare": outside, "added": added}
    write_records(OUTPUT, [record(SUITE, case, "answer", "ms", values, ran_with) for case, values in cases.items()])
    for case, values in cases.items():
        shares = ", ".join(f"p{share * 100:.0f} {quantile(values, share):.2f}" for share in (0.5, 0.9))
        sys.stdout.write(f"{SUITE} {case}: {shares} ms (n={len(values)})\n")
    assert len(added) == ROUNDS
