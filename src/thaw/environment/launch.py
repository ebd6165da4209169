"""Starting one sandbox: spawn the launcher, and wait until PID 1 of the new namespaces says that it is ready."""

from __future__ import annotations

import array
import asyncio
import errno
import os
import signal
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw import native
from thaw.environment import control
from thaw.environment.scarcity import scarce
from thaw.errors import SandboxError

_READY_LIMIT_S = 10.0
_CREDENTIALS = struct.Struct("iII")


@dataclass(slots=True)
class Launched:
    """A sandbox that is ready: number and pidfd of its PID 1, the control socket, and what READY brought."""

    pid: int
    pidfd: int
    control: socket.socket
    listener: int
    server_end: int
    function_end: int
    routing: int


@dataclass(slots=True)
class Packet:
    """One packet, the descriptors beside it, and the sender's process number (0 where unknown)."""

    message: control.Message
    descriptors: list[int]
    sender: int


async def launch(binary: Path, file_tree: int, group: int | None, users: Sequence[str] = ()) -> Launched:
    """Start a sandbox from `file_tree` (a mount namespace), born in the version 2 group `group` where there is one.

    `users` makes it one with a user namespace (`Identity.arguments`).

    Has to run on the loop's own thread: PID 1 dies with the thread that spawned its launcher. Raises SandboxError.
    """
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise scarce("The control socket of a sandbox", error, step="control") from error
    try:
        with theirs:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            launcher = _spawn(binary, theirs.fileno(), file_tree, group, users)
        return await _launched(ours, launcher)
    except BaseException:
        ours.close()
        raise


async def _launched(ours: socket.socket, launcher: int) -> Launched:
    loop = asyncio.get_running_loop()
    try:
        packet = await _first_packet(ours)
        if not _is_ready(packet):
            await _forget(packet, launcher)
            raise failure(packet.message)
        try:
            return Launched(packet.sender, os.pidfd_open(packet.sender), ours, *packet.descriptors)
        except OSError as error:
            await _forget(packet, launcher)
            raise scarce("The handle of a sandbox", error, step="pidfd_open") from error
    finally:
        await loop.run_in_executor(None, os.waitpid, launcher, 0)


def _spawn(binary: Path, theirs: int, file_tree: int, group: int | None, users: Sequence[str]) -> int:
    """The launcher's process number."""
    descriptors = {control.CONTROL_FD: theirs, control.FILE_TREE_FD: file_tree}
    if group is not None:
        descriptors[control.CGROUP_FD] = group
    try:
        return native.spawn(binary, "sandbox", descriptors, *users)
    except OSError as error:
        raise scarce(f"The process of a sandbox ({binary})", error, step="spawn") from error


async def _first_packet(ours: socket.socket) -> Packet:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(ours.fileno(), arrived.set)
    try:
        async with asyncio.timeout(_READY_LIMIT_S):
            await arrived.wait()
    except TimeoutError as error:
        raise SandboxError("A sandbox was not ready within 10 seconds; is the machine overloaded?") from error
    finally:
        loop.remove_reader(ours.fileno())
    packet = receive(ours)
    if packet is None:
        raise SandboxError("The sandbox launcher ended without a word.", step="launch")
    return packet


def _is_ready(packet: Packet) -> bool:
    return packet.message.kind is control.Kind.READY and len(packet.descriptors) == 4 and packet.sender > 0


async def _forget(packet: Packet, launcher: int) -> None:
    """Close what came, and reap a PID 1 that has said its last word, or that nobody can use."""
    for descriptor in packet.descriptors:
        os.close(descriptor)
    if packet.sender not in (0, launcher):
        if packet.message.kind is control.Kind.READY:
            os.kill(packet.sender, signal.SIGKILL)
        await asyncio.get_running_loop().run_in_executor(None, os.waitpid, packet.sender, 0)


def failure(message: control.Message) -> SandboxError:
    """What a sandbox's FAILED means. One that is READY sent descriptors for which this process had no room."""
    if message.kind is control.Kind.READY:
        return scarce("The descriptors of a sandbox", OSError(errno.EMFILE, os.strerror(errno.EMFILE)), step="launch")
    reason = f": {os.strerror(message.number)}" if message.number else ""
    return SandboxError(f"The sandbox stopped at {message.step or message.kind.name}{reason}.", step=message.step)


def receive(ours: socket.socket) -> Packet | None:
    """The next packet; None where the other side is gone. Raises BlockingIOError where there is none yet."""
    room = socket.CMSG_SPACE(control.DESCRIPTOR_LIMIT * 4) + socket.CMSG_SPACE(_CREDENTIALS.size)
    try:
        data, ancillary, _, _ = ours.recvmsg(control.CONTROL_LIMIT, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    descriptors = array.array("i")
    sender = 0
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(value[: len(value) // 4 * 4])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            sender = _CREDENTIALS.unpack(value)[0]
    return Packet(control.parse(data), list(descriptors), sender) if data else None


def send(ours: socket.socket, packet: bytes, descriptors: list[int]) -> None:
    """Send one packet. Raises SandboxError where the sandbox is gone."""
    try:
        socket.send_fds(ours, [packet], descriptors) if descriptors else ours.send(packet)
    except OSError as error:
        raise SandboxError(f"The sandbox is gone ({error}).", step="control") from error
