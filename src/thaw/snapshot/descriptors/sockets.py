"""Internet and netlink sockets: listeners listen, datagram sockets are bound again, connections come back reset.

A connection's other side lives elsewhere and is long gone when a clone begins; on Lambda, too, the first use of such a
connection fails. The clone's socket has been reset by its peer, so that every library takes the path it has for that.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Final

from thaw.snapshot.descriptors.context import Context, refusal
from thaw.snapshot.descriptors.table import OpenFile
from thaw.snapshot.program import OPTIONAL, RESULT_IS_ARG2

_libc = ctypes.CDLL(None, use_errno=True)
_TCP_ESTABLISHED, _TCP_CLOSE, _TCP_LISTEN = 1, 7, 10  # include/net/tcp_states.h
_TCP_INFO_STATE, _TCP_INFO_BACKLOG = 0, 28  # offsets in struct tcp_info; of a listener, sacked is its backlog
_SOL_IP, _IP_FREEBIND = 0, 15
_LINGER_RESET: Final = struct.pack("=ii", 1, 0)
_INTEGER_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.SOL_SOCKET, socket.SO_BROADCAST),
    (socket.SOL_SOCKET, socket.SO_OOBINLINE),
    (socket.SOL_SOCKET, socket.SO_PASSCRED),
    (socket.SOL_SOCKET, socket.SO_RCVLOWAT),
)
_TIME_OPTIONS: Final = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
_INET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
    (socket.IPPROTO_IP, socket.IP_TOS),
)
_DEFAULT_INTEGERS: Final = {socket.SO_RCVLOWAT: 1}


def raw_name(descriptor: int, *, peer: bool = False) -> bytes:
    """struct sockaddr of the socket's own or its peer's address; empty where it has none."""
    buffer = ctypes.create_string_buffer(128)
    size = ctypes.c_uint32(len(buffer))
    call = _libc.getpeername if peer else _libc.getsockname
    if call(descriptor, buffer, ctypes.byref(size)) < 0:
        return b""
    return buffer.raw[: size.value]


def _option(view: socket.socket, level: int, name: int, size: int = 4) -> bytes:
    try:
        return view.getsockopt(level, name, size)
    except OSError:  # this kind of socket does not have it
        return b""


def plan_options(context: Context, view: socket.socket, held: int) -> None:
    """Set the options that differ from their defaults."""
    internet = _INET_OPTIONS if view.family in (socket.AF_INET, socket.AF_INET6) else ()
    with socket.socket(view.family, view.type, view.proto) as fresh:
        for level, name in (*_INTEGER_OPTIONS, *internet):
            _plan_option(context, held, (level, name), _option(view, level, name), _option(fresh, level, name))
        for name in _TIME_OPTIONS:
            values = (_option(view, socket.SOL_SOCKET, name, 16), _option(fresh, socket.SOL_SOCKET, name, 16))
            _plan_option(context, held, (socket.SOL_SOCKET, name), *values)
        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            value, default = _option(view, socket.SOL_SOCKET, name), _option(fresh, socket.SOL_SOCKET, name)
            if value != default and view.type == socket.SOCK_DGRAM:  # TCP sizes its buffers itself
                halved = struct.pack("=i", struct.unpack("=i", value)[0] // 2)  # the kernel doubles what it is given
                _plan_option(context, held, (socket.SOL_SOCKET, name), halved, b"")


def _plan_option(context: Context, held: int, option: tuple[int, int], value: bytes, default: bytes) -> None:
    if value and value != default:
        address = context.plan.allocate(value)
        context.enter.call("setsockopt", held, *option, address, len(value), flags=OPTIONAL)


def _plan_fresh(context: Context, view: socket.socket, file: OpenFile) -> int:
    held = context.hold("socket", view.family, view.type, view.proto, label=f"socket for {file.link}")
    plan_options(context, view, held)
    return held


def _plan_bind(context: Context, held: int, name: bytes, label: str) -> None:
    """Bind also to an address that this sandbox does not have: it had another one when the snapshot was taken."""
    one = context.plan.allocate(struct.pack("=i", 1))
    context.enter.call("setsockopt", held, _SOL_IP, _IP_FREEBIND, one, 4, flags=OPTIONAL)
    context.enter.call("bind", held, context.plan.allocate(name), len(name), label=label)


def _port(name: bytes) -> int:
    return int(struct.unpack_from("!H", name, 2)[0]) if len(name) >= 4 else 0


def plan_tcp(context: Context, view: socket.socket, file: OpenFile) -> int:
    """A TCP socket in one of three states: listening, connected (which means reset), or neither."""
    name = raw_name(file.duplicate)
    information = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    state = information[_TCP_INFO_STATE]
    if context.connection_port and _port(name) == context.connection_port and state == _TCP_ESTABLISHED:
        held = context.kept.connection
        context.set_flags(held, file)
        return held
    held = _plan_fresh(context, view, file)
    if state == _TCP_ESTABLISHED and (request := context.repeated.get(_port(name))):
        _plan_repeated(context, held, raw_name(file.duplicate, peer=True), request)
    elif state == _TCP_LISTEN:
        _plan_bind(context, held, name, f"bind of the listener on descriptor {file.first}")
        (backlog,) = struct.unpack_from("=I", information, _TCP_INFO_BACKLOG)
        context.enter.call("listen", held, backlog)
    elif state == _TCP_CLOSE:
        if _port(name):
            _plan_bind(context, held, name, f"bind of descriptor {file.first}")
    else:
        _plan_reset(context, view, held)
    context.set_flags(held, file)
    return held


def _plan_repeated(context: Context, held: int, peer: bytes, request: bytes) -> None:
    """Connect to the server again, and ask once more: whoever waits for the answer reads that of the new server."""
    label = "connect to the Runtime API"
    context.enter.call("connect", held, context.plan.allocate(peer), len(peer), label=label)
    arguments = (held, context.plan.allocate(request), len(request), 0, 0, 0)
    context.enter.call("sendto", *arguments, label=label, flags=RESULT_IS_ARG2)


def _plan_reset(context: Context, view: socket.socket, held: int) -> None:
    """Connect to a listener of our own on the loopback and let the other side close with a reset."""
    ipv6 = view.family == socket.AF_INET6
    loopback = socket.inet_pton(view.family, "::1" if ipv6 else "127.0.0.1")
    # struct sockaddr_in6: family, port, flow, address, scope; struct sockaddr_in: family, port, address, padding
    packed = struct.pack("=HHI16sI", view.family, 0, 0, loopback, 0) if ipv6 else struct.pack("=HH4s8x", 2, 0, loopback)
    address = context.plan.allocate(packed)
    size = context.plan.allocate(struct.pack("=I", len(packed)))
    linger = context.plan.allocate(_LINGER_RESET)
    label = "reset of a connection"
    listener = context.hold("socket", view.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0, label=label)
    context.enter.call("bind", listener, address, len(packed), label=label)
    context.enter.call("listen", listener, 1, label=label)
    context.enter.call("getsockname", listener, address, size, label=label)
    context.enter.call("connect", held, address, len(packed), label=label)
    accepted = context.hold("accept4", listener, 0, 0, 0, label=label)
    context.enter.call("setsockopt", accepted, socket.SOL_SOCKET, socket.SO_LINGER, linger, 8, label=label)
    context.enter.call("close", accepted)
    context.enter.call("close", listener)


def plan_udp(context: Context, view: socket.socket, file: OpenFile) -> int:
    """A datagram socket, bound and connected as before; datagrams that waited are lost, as datagrams may be."""
    held = _plan_fresh(context, view, file)
    name, peer = raw_name(file.duplicate), raw_name(file.duplicate, peer=True)
    if _port(name):
        _plan_bind(context, held, name, f"bind of descriptor {file.first}")
    if peer:
        context.enter.call("connect", held, context.plan.allocate(peer), len(peer), flags=OPTIONAL)
    context.set_flags(held, file)
    return held


def plan_netlink(context: Context, view: socket.socket, file: OpenFile) -> int:
    """A netlink socket, bound to the same number and groups."""
    held = _plan_fresh(context, view, file)
    name = raw_name(file.duplicate)
    if any(name[4:]):
        context.enter.call("bind", held, context.plan.allocate(name), len(name), label="bind of a netlink socket")
    context.set_flags(held, file)
    return held


def plan_socket(context: Context, file: OpenFile) -> int:
    """Any socket but a Unix one.

    Raises:
        NotFreezable: a kind that has no way back.
    """
    with socket.socket(fileno=os.dup(file.duplicate)) as view:
        kind = (view.family, view.type)
        if kind in ((socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET6, socket.SOCK_STREAM)):
            return plan_tcp(context, view, file)
        if kind in ((socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_DGRAM)):
            return plan_udp(context, view, file)
        if view.family == socket.AF_NETLINK:
            return plan_netlink(context, view, file)
        family = getattr(view.family, "name", f"family {view.family}")
        raise refusal(file, f"a socket of {family} type {int(view.type)}")
