"""Unix sockets: pairs inside the process are connected again, with what is still in them (unix(7), sock_diag(7))."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from thaw.snapshot.descriptors.context import Context, refusal
from thaw.snapshot.descriptors.sockets import plan_options, raw_name
from thaw.snapshot.descriptors.table import OpenFile
from thaw.snapshot.namespaces import inside
from thaw.snapshot.program import OPTIONAL

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLMSG_DONE: Final = 3
_SHOW_PEER_AND_QUEUE: Final = 0x4 | 0x10  # UDIAG_SHOW_PEER, UDIAG_SHOW_RQLEN
_DIAG_PEER, _DIAG_RQLEN, _DIAG_SHUTDOWN = 2, 4, 6
_STATE_LISTEN: Final = 10
_SO_PEEK_OFF: Final = 42
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT
_MESSAGE_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class UnixState:
    """What the kernel says of one Unix socket.

    `peer` is an inode, 0 for none; `waiting` are a listener's connections that nobody has accepted yet, of at most
    `backlog`; `shut` has bit 0 for receiving and bit 1 for sending.
    """

    state: int = 0
    peer: int = 0
    backlog: int = 0
    shut: int = 0
    waiting: int = 0


def _diag_socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)


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
    waiting, backlog = struct.unpack("=II", attributes.get(_DIAG_RQLEN, bytes(8)))
    return inode, UnixState(state, peer, backlog, attributes.get(_DIAG_SHUTDOWN, b"\0")[0], waiting)


def read_unix_states(pid: int) -> dict[int, UnixState]:
    """All Unix sockets of the process's network namespace, by inode."""
    states: dict[int, UnixState] = {}
    with inside(pid, "net", _diag_socket) as diag:
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
        except (BlockingIOError, ConnectionResetError):  # nothing more; the peer closed without reading everything
            return messages
        for _, kind, descriptors in ancillary:
            if kind == socket.SCM_RIGHTS:
                _close_all(descriptors)
                raise refusal(
                    file, "a Unix socket with descriptors on the way", "receive them in a before-snapshot hook"
                )
        if not data and view.type != socket.SOCK_DGRAM:  # its end; only a datagram may be empty
            return messages
        messages.append(data)


def _close_all(packed: bytes) -> None:
    for (descriptor,) in struct.iter_unpack("=i", packed[: len(packed) // 4 * 4]):
        os.close(descriptor)


def plan_unix(
    context: Context, file: OpenFile, states: dict[int, UnixState], others: dict[int, OpenFile]
) -> list[tuple[OpenFile, int]]:
    """Numbers for this socket and, where the two are connected to each other, for its peer."""
    with socket.socket(fileno=os.dup(file.duplicate)) as view:
        state = states.get(file.inode, UnixState())
        if state.state == _STATE_LISTEN:
            return [(file, _plan_listener(context, view, file, state))]
        if _is_one_way(view, file, states):
            return [(file, _plan_unconnected(context, view, file))]
        if state.peer or _had_peer(view, file):
            return _plan_connected(context, view, file, others.get(state.peer), state.shut)
        return [(file, _plan_unconnected(context, view, file))]


def _is_one_way(view: socket.socket, file: OpenFile, states: dict[int, UnixState]) -> bool:
    """Whether it is a datagram socket connected to one that is not connected to it: a client and its server."""
    peer = states.get(states.get(file.inode, UnixState()).peer)
    return view.type == socket.SOCK_DGRAM and peer is not None and peer.peer != file.inode


def plan_one_way(context: Context, file: OpenFile, held: int, states: dict[int, UnixState]) -> None:
    """Connect such a client again, when every socket has its name."""
    with socket.socket(fileno=os.dup(file.duplicate)) as view:
        if _is_one_way(view, file, states):
            peer = raw_name(file.duplicate, peer=True)
            address = context.plan.allocate(peer)
            context.enter.call("connect", held, address, len(peer), label=f"connect of {file.link}")


def _had_peer(view: socket.socket, file: OpenFile) -> bool:
    """Whether the peer has gone: a stream then is at its end or reset, and a socket that never had one is neither."""
    if raw_name(file.duplicate, peer=True):
        return True
    if view.type == socket.SOCK_DGRAM:
        return False
    try:
        view.recv(1, _PEEK)
    except (BlockingIOError, ConnectionResetError):
        return True
    except OSError:  # EINVAL, ENOTCONN: it never had a peer
        return False
    return True


def _plan_bind(context: Context, held: int, file: OpenFile) -> None:
    """Bind to the old name; a name in the file system gets its mode and the function as its owner."""
    name = raw_name(file.duplicate)
    path = name[2:].split(b"\0")[0]
    if not name[2:]:
        return
    address = context.plan.allocate(path + b"\0")
    if path:
        context.enter.call("unlink", address, flags=OPTIONAL)
    context.enter.call("bind", held, context.plan.allocate(name), len(name), label="bind of a Unix socket")
    if path:
        mode = os.stat(f"/proc/{file.pid}/root{os.fsdecode(_absolute(file, path))}").st_mode & 0o7777
        context.enter.call("chmod", address, mode, label="chmod of a Unix socket")
        context.enter.call("lchown", address, context.plan.parameter("uid"), context.plan.parameter("gid"))


def _absolute(file: OpenFile, path: bytes) -> bytes:
    return os.path.join(os.fsencode(os.readlink(f"/proc/{file.pid}/cwd")), path)


def _plan_listener(context: Context, view: socket.socket, file: OpenFile, state: UnixState) -> int:
    if state.waiting:
        raise refusal(
            file, "a Unix listener with connections that nobody has accepted", "accept them in a before-snapshot hook"
        )
    held = context.hold("socket", view.family, view.type, 0, label=f"socket for {file.link}")
    plan_options(context, view, held)
    _plan_bind(context, held, file)
    context.enter.call("listen", held, state.backlog)
    context.set_flags(held, file)
    return held


def _plan_unconnected(context: Context, view: socket.socket, file: OpenFile) -> int:
    held = context.hold("socket", view.family, view.type, 0, label=f"socket for {file.link}")
    plan_options(context, view, held)
    _plan_bind(context, held, file)
    messages = _waiting(file, view) if view.type == socket.SOCK_DGRAM else []
    if messages:
        name = raw_name(file.duplicate)
        sender = context.hold("socket", view.family, view.type, 0, label=f"sender to {file.link}")
        context.enter.call("connect", sender, context.plan.allocate(name), len(name), label=f"connect to {file.link}")
        _send(context, messages, through=sender)
    context.set_flags(held, file)
    return held


def _plan_connected(
    context: Context, view: socket.socket, file: OpenFile, peer: OpenFile | None, shut: int
) -> list[tuple[OpenFile, int]]:
    """A new pair; where the peer is not in the process, its end is closed with the template's other descriptors."""
    near, far = context.hold_pair(view.family, int(view.type), label=f"socketpair for {file.link}")
    plan_options(context, view, near)
    _send(context, _waiting(file, view), through=far)
    context.set_flags(near, file)
    if peer is None or peer is file:
        return [(file, near)]
    with socket.socket(fileno=os.dup(peer.duplicate)) as far_view:
        plan_options(context, far_view, far)
        _send(context, _waiting(peer, far_view), through=near)
    context.set_flags(far, peer)
    if shut:
        context.enter.call("shutdown", near, shut - 1)  # SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2
    return [(file, near), (peer, far)]


def _send(context: Context, messages: list[bytes], *, through: int) -> None:
    for message in messages:
        address = context.plan.allocate(message)
        context.enter.call("sendto", through, address, len(message), 0, 0, 0, label="send into a Unix socket")
