"""Freeze one tiny program in a sandbox and thaw three clones of it at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from thaw import native
from thaw.environment import control, mounts
from thaw.environment.file_tree import build_file_tree
from thaw.environment.launch import Launched, launch, receive, send
from thaw.environment.seccomp import function_filter
from thaw.environment.users import FUNCTION_UID, Identity, Users
from thaw.errors import SandboxError
from thaw.restore import Cloned, Template, unpack_folder
from thaw.snapshot import Capture, FreezeTarget

PROGRAMS = Path(__file__).with_name("programs")
RUNNER = "/var/task/runner.py"
_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What sandboxes start from: a file tree, and user namespaces where this machine permits them."""

    namespace: int
    users: Users | None


@contextmanager
def ground() -> Iterator[Ground]:
    try:
        users = Users()
    except SandboxError:
        users = None
    try:
        namespace = build_file_tree(users)
        try:
            yield Ground(namespace, users)
        finally:
            os.close(namespace)
    finally:
        if users is not None:
            users.close()


def permits_users() -> bool:
    with ground() as found:
        return found.users is not None


@dataclass(slots=True)
class Box:
    """One sandbox of a test, its log, and our end of the connection to the program in it."""

    launched: Launched
    log: Path
    log_fd: int
    tmp: int
    ground: Ground
    identity: Identity | None
    connection: socket.socket | None = None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")


@asynccontextmanager
async def box(on: Ground, folder: Path, name: str) -> AsyncIterator[Box]:
    identity = on.users.take() if on.users else None
    arguments = identity.arguments if identity else ()
    launched = await launch(native.binary(), on.namespace, None, arguments)
    log = folder / f"{name}.log"
    tmp = mounts.memory_filesystem(64, 0o1777, owner=identity.root if identity else 0)
    made = Box(launched, log, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), tmp, on, identity)
    try:
        yield made
    finally:
        os.kill(launched.pid, 9)
        launched.control.close()
        await asyncio.to_thread(_reap, launched)
        descriptors = [launched.pidfd, launched.listener, launched.routing, launched.server_end, launched.function_end]
        for descriptor in [*descriptors, made.log_fd, tmp]:
            if descriptor >= 0:
                os.close(descriptor)
        if made.connection is not None:
            made.connection.close()


Asked = Callable[[Box], Awaitable[Any]]


def _reap(launched: Launched) -> None:
    os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)


def interpreter() -> tuple[list[tuple[Path, str]], list[str], dict[str, str]]:
    """Mounts, command and variables with which this Python runs in a sandbox."""
    executable = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    prefix = Path(sys.base_prefix)
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    if prefix == Path("/usr"):
        return [], [str(executable)], variables
    inside = "/var/lang/" + str(executable.relative_to(prefix))
    return [(prefix, "/var/lang")], [inside], {**variables, "LD_LIBRARY_PATH": "/var/lang/lib"}


@cache
def probe_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder with the compiled probe, which lives as long as the tests."""
    folder = tempfile.TemporaryDirectory(prefix="thaw-probe-")
    os.chmod(folder.name, 0o755)
    source = Path(__file__).with_name("probe.c")
    flags = ["-O2", "-shared", "-fPIC", "-mno-red-zone", "-Wall", "-Wextra", "-Werror"]
    run(["gcc", *flags, "-o", f"{folder.name}/libprobe.so", str(source)])
    return folder


def shared_places(owners: int = -1) -> list[tuple[str, int]]:
    shown, _, _ = interpreter()
    places = [(target, mounts.read_only_tree(source, owners)) for source, target in shown]
    places.append(("/opt", mounts.read_only_tree(Path(probe_folder().name), owners)))
    return [*places, ("/var/task", mounts.read_only_tree(PROGRAMS, owners))]


def _places(found: Box) -> list[tuple[str, int]]:
    owners = found.ground.users.namespace if found.ground.users else -1
    return [*shared_places(owners), ("/tmp", os.dup(found.tmp))]


async def start(found: Box, program: str) -> None:
    """Start the program and wait until it has set its state and waits."""
    places = _places(found)
    send(found.launched.control, control.attach([path for path, _ in places]), [mount for _, mount in places])
    for _, mount in places:
        os.close(mount)
    _, command, variables = interpreter()
    who = control.Confinement(FUNCTION_UID, FUNCTION_UID, function_filter(), [control.ResourceLimit(7, 1024, 1024)])
    send(
        found.launched.control, control.start(who, "/var/task", [*command, RUNNER, program], variables), [found.log_fd]
    )
    listener = socket.socket(fileno=os.dup(found.launched.listener))
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_LIMIT_S):
        with listener:
            found.connection, _ = await loop.sock_accept(listener)
    async with asyncio.timeout(_LIMIT_S):
        line = await _line(found.connection)
    assert line == {"ready": True}, f"{line.get('error', line)}\n{found.output}"


async def _line(connection: socket.socket) -> Any:
    loop = asyncio.get_running_loop()
    data = b""
    connection.setblocking(False)
    while not data.endswith(b"\n"):
        try:
            piece = await loop.sock_recv(connection, 65536)
        except ConnectionResetError:  # it was killed before it had read what we sent
            piece = b""
        if not piece:
            return {"ended": True}
        data += piece
    return json.loads(data)


async def ask(found: Box) -> Any:
    """Let the program check its state; what it found."""
    assert found.connection is not None
    async with asyncio.timeout(_LIMIT_S):
        await asyncio.get_running_loop().sock_sendall(found.connection, b"check\n")
        return await _line(found.connection)


def function_pid(found: Box) -> int:
    children = Path(f"/proc/{found.launched.pid}/task/{found.launched.pid}/children").read_text().split()
    return int(children[0])


async def frozen(found: Box) -> Capture:
    """Freeze the program in a process of its own, as publish does, so that the tests' process traces nobody."""
    assert found.connection is not None
    status = os.fstat(found.log_fd)
    target = FreezeTarget(
        pid=function_pid(found),
        sandbox_pid=found.launched.pid,
        connection_port=found.connection.getpeername()[1],
        log=(status.st_dev, status.st_ino),
    )
    from thaw.snapshot import freeze

    return await asyncio.to_thread(freeze, target)


async def template_of(on: Ground, capture: Capture) -> Template:
    return await Template.load(
        mounts=on.namespace, places=shared_places(), plan=capture.plan, memory_fd=capture.memory, facts=capture.facts
    )


@dataclass(frozen=True, slots=True)
class CloneRequest:
    sandbox_pidfd: int
    connection_fd: int
    log_fd: int
    cgroup_fd: int | None
    uid: int
    gid: int
    seccomp_filter: bytes
    pid: int = 0
    host_id: int | None = None


def request_of(found: Box, sandbox_pidfd: int | None = None, seccomp: bytes | None = None) -> CloneRequest:
    launched = found.launched
    return CloneRequest(
        launched.pidfd if sandbox_pidfd is None else sandbox_pidfd, launched.function_end, found.log_fd, None,
        FUNCTION_UID, FUNCTION_UID, function_filter() if seccomp is None else seccomp,
        host_id=found.identity.user if found.identity else None,
    )  # fmt: skip


async def thawed(template: Template, found: Box, disk: bytes, asked: Asked | None = None) -> tuple[int, Any]:
    """Put a clone into a sandbox; its pid, and what the program found, or what `asked` says instead."""
    places = _places(found)
    send(found.launched.control, control.attach([path for path, _ in places]), [mount for _, mount in places])
    for _, mount in places:
        os.close(mount)
    await _attached(found)
    owners = found.identity.outside if found.identity else {}
    unpack_folder(disk, f"/proc/self/fd/{found.tmp}", owners)
    launched = found.launched
    cloned = await template.clone(request_of(found))
    os.close(launched.function_end)
    launched.function_end = -1
    found.connection = socket.socket(fileno=launched.server_end)
    launched.server_end = -1
    try:
        return cloned.pid, await (asked(found) if asked else _found(found, cloned))
    finally:
        # PID 1 of the sandbox cannot end before its clone, whose parent is this process, has been reaped.
        signal.pidfd_send_signal(cloned.pidfd, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PIDFD, cloned.pidfd, os.WEXITED)
        os.close(cloned.pidfd)


async def _found(found: Box, cloned: Cloned) -> Any:
    """What the program found, or how the clone ended."""
    answer = await ask(found)
    if answer == {"ended": True}:
        options = os.WEXITED | os.WNOWAIT
        status = await asyncio.to_thread(os.waitid, os.P_PIDFD, cloned.pidfd, options)
        assert status is not None
        return {"ended": status.si_status, "failure": str(cloned.failure()), "log": found.output}
    return answer


async def _attached(found: Box) -> None:
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(found.launched.control, arrived.set)
    try:
        async with asyncio.timeout(_LIMIT_S):
            await arrived.wait()
    finally:
        loop.remove_reader(found.launched.control)
    packet = receive(found.launched.control)
    assert packet is not None
    assert packet.message.kind is control.Kind.ATTACHED, packet


async def round_trip(program: str, folder: Path, clones: int = 3) -> list[Any]:
    """Set state, freeze, thaw, check; what each clone found."""
    async with AsyncExitStack() as stack:
        on = stack.enter_context(ground())
        original = await stack.enter_async_context(box(on, folder, "original"))
        await start(original, program)
        capture = await frozen(original)
        stack.callback(os.close, capture.memory)
        template = await template_of(on, capture)
        stack.push_async_callback(template.close)
        boxes = [await stack.enter_async_context(box(on, folder, f"clone{index}")) for index in range(clones)]
        found = await asyncio.gather(*(thawed(template, each, capture.disk) for each in boxes))
        return [answer for _, answer in found]


def descriptor_count() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
