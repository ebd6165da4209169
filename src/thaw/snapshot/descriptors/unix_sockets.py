"""Unix sockets: pairs inside the process are connected again, with what is still in them (unix(7), sock_diag(7))."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Final

from thaw.errors import FreezeFailed
from thaw.snapshot.descriptors.context import Context, refusal
from thaw.snapshot.descriptors.sockets import plan_options, raw_name
from thaw.snapshot.descriptors.table import OpenFile

_libc = ctypes.CDLL(None, use_errno=True)
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_DONE: Final = 3
_SHOW_PEER_AND_QUEUE: Final = 0x4 | 0x10  # UDIAG_SHOW_PEER, UDIAG_SHOW_RQLEN
_DIAG_PEER, _DIAG_RQLEN = 2, 4
_STATE_LISTEN: Final = 10
_SO_PEEK_OFF: Final = 42
_CLONE_NEWNET: Final = 0x4000_0000
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
_MESSAGE_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class UnixState:
    """What the kernel says of one Unix socket; `peer` is an inode, 0 for none; `backlog` of a listener."""

    state: int
    peer: int
    backlog: int


def _diag_socket(pid: int) -> socket.socket:
    """A sock_diag socket in the process's network namespace, which only a thread of our own may enter."""
    result: list[socket.socket] = []

    def enter() -> None:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if _libc.setns(namespace, _CLONE_NEWNET) == 0:
            result.append(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG))
        os.close(namespace)

    thread = threading.Thread(target=enter, name="thaw-sock-diag")
    thread.start()
    thread.join()
    if not result:
        raise FreezeFailed(
            "The network namespace of the function could not be entered: Thaw needs CAP_SYS_ADMIN for it."
        )
    return result[0]


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind] = data[4:length]
        data = data[-(-length // 4) * 4 :]
    return found


def _parse(message: bytes) -> tuple[int, UnixState]:
    _, _, state, _, inode = struct.unpack_from("=BBBBI", message)
    attributes = _attributes(message[16:])
    (peer,) = struct.unpack("=I", attributes.get(_DIAG_PEER, bytes(4)))
    _, backlog = struct.unpack("=II", attributes.get(_DIAG_RQLEN, bytes(8)))
    return inode, UnixState(state, peer, backlog)


def read_unix_states(pid: int) -> dict[int, UnixState]:
    """All Unix sockets of the process's network namespace, by inode."""
    states: dict[int, UnixState] = {}
    with _diag_socket(pid) as diag:
        request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFF_FFFF, 0, _SHOW_PEER_AND_QUEUE, 0, 0)
        diag.send(struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + request)
        while True:
            data = diag.recv(1 << 17)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _NLMSG_DONE:
                    return states
                if kind == _SOCK_DIAG_BY_FAMILY:
                    inode, state = _parse(data[16:length])
                    states[inode] = state
                data = data[-(-length // 4) * 4 :]


def _waiting(file: OpenFile, view: socket.socket) -> list[bytes]:
    """Messages that nobody has received yet, left where they are.

    Raises:
        NotFreezable: one of them carries descriptors.
    """
    messages: list[bytes] = []
    view.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
    while True:
        try:
            data, ancillary, _, _ = view.recvmsg(_MESSAGE_LIMIT, socket.CMSG_SPACE(1024), _PEEK)
        except BlockingIOError:
            return messages
        for _, kind, descriptors in ancillary:
            if kind == socket.SCM_RIGHTS:
                _close_all(descriptors)
                raise refusal(
                    file, "a Unix socket with descriptors on the way", "receive them in a before-snapshot hook"
                )
        if not data:
            return messages
        messages.append(data)


def _close_all(packed: bytes) -> None:
    for (descriptor,) in struct.iter_unpack("=i", packed[: len(packed) // 4 * 4]):
        os.close(descriptor)


def plan_unix(
    context: Context, file: OpenFile, states: dict[int, UnixState], others: dict[int, OpenFile]
) -> list[tuple[OpenFile, int]]:
    """Numbers for this socket and, where its peer is in the process, for the peer."""
    with socket.socket(fileno=os.dup(file.duplicate)) as view:
        state = states.get(file.inode, UnixState(0, 0, 0))
        if state.state == _STATE_LISTEN:
            return [(file, _plan_listener(context, view, file, state))]
        if state.peer or (view.type != socket.SOCK_DGRAM and raw_name(file.duplicate, peer=True)):
            return _plan_connected(context, view, file, others.get(state.peer))
        if _was_connected(view):
            return _plan_connected(context, view, file, None)
        return [(file, _plan_unconnected(context, view, file))]


def _was_connected(view: socket.socket) -> bool:
    """Whether the peer of a stream has gone: the socket then is readable at its end, a fresh one is not connected."""
    if view.type == socket.SOCK_DGRAM:
        return False
    try:
        view.recv(1, _PEEK)
    except BlockingIOError:
        return True
    except OSError:  # EINVAL, ENOTCONN: it never had a peer
        return False
    return True


def _plan_bind(context: Context, held: int, name: bytes) -> None:
    path = name[2:]
    if path[:1] not in (b"", b"\0"):
        context.enter.call("unlink", context.plan.allocate(path.rstrip(b"\0") + b"\0"), flags=1)
    if path:
        context.enter.call("bind", held, context.plan.allocate(name), len(name), label="bind of a Unix socket")


def _plan_listener(context: Context, view: socket.socket, file: OpenFile, state: UnixState) -> int:
    held = context.hold("socket", view.family, view.type, 0, label=f"socket for {file.link}")
    plan_options(context, view, held)
    _plan_bind(context, held, raw_name(file.duplicate))
    context.enter.call("listen", held, state.backlog)
    context.set_flags(held, file)
    return held


def _plan_unconnected(context: Context, view: socket.socket, file: OpenFile) -> int:
    held = context.hold("socket", view.family, view.type, 0, label=f"socket for {file.link}")
    plan_options(context, view, held)
    _plan_bind(context, held, raw_name(file.duplicate))
    context.set_flags(held, file)
    return held


def _plan_connected(
    context: Context, view: socket.socket, file: OpenFile, peer: OpenFile | None
) -> list[tuple[OpenFile, int]]:
    """A new pair; where the peer is not in the process, its end is closed with the template's other descriptors."""
    near, far = context.hold_pair(view.family, int(view.type), label=f"socketpair for {file.link}")
    plan_options(context, view, near)
    _send_again(context, file, view, through=far)
    context.set_flags(near, file)
    if peer is None or peer is file:
        return [(file, near)]
    with socket.socket(fileno=os.dup(peer.duplicate)) as far_view:
        plan_options(context, far_view, far)
        _send_again(context, peer, far_view, through=near)
    context.set_flags(far, peer)
    return [(file, near), (peer, far)]


def _send_again(context: Context, receiver: OpenFile, view: socket.socket, *, through: int) -> None:
    for message in _waiting(receiver, view):
        address = context.plan.allocate(message)
        context.enter.call("sendto", through, address, len(message), 0, 0, 0, label="send into a Unix socket")
