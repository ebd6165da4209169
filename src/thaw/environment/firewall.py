"""The host's part of the way out: address translation, refusals, and the egress policy, in a table that dies with its
socket.

The nftables messages are written here because the table needs the `owner` flag (Linux 5.12): the kernel then removes
it when the socket closes, also after kill -9. The layout is linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import ipaddress
import struct

from thaw.environment.egress import LINK_LOCAL, Egress
from thaw.environment.netlink import CREATE, Netlink, attribute, message, nested

_NETLINK_NETFILTER = 12
_NFTABLES = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 3, 6
_FAMILY_IPV4 = 2
_TABLE_OWNER = 2
_HOOK_PRE_ROUTING, _HOOK_FORWARD, _HOOK_POST_ROUTING = 0, 2, 4
_PRIORITY_RAW, _PRIORITY_FILTER, _PRIORITY_SOURCE_NAT = -300, 0, 100
_META_IN_NAME, _META_OUT_NAME = 6, 7
_EQUAL, _DIFFERENT = 0, 1
_SOURCE_OFFSET, _TARGET_OFFSET = 12, 16
_REGISTER = 1
_DROP, _ACCEPT = 0, 1
_APPEND = 0x800

Network = ipaddress.IPv4Network


def open_firewall(name: str, subnet: Network, link: str, egress: Egress) -> Netlink:
    """Let `subnet`, reached through the host's `link`, out under the host's addresses, as far as `egress` allows.

    Refused is in any case the way from one sandbox to another by way of the host. What `egress` refuses is dropped
    before any address translation of the host's: an agent that answers for a metadata address is out of reach, too.
    Returns the socket that owns the table `name`. Raises OSError where nftables is missing.
    """
    batch = [
        _message(_NEW_TABLE, attribute(1, name), _big(2, _TABLE_OWNER)),
        _chain(name, "out", "nat", _HOOK_POST_ROUTING, _PRIORITY_SOURCE_NAT),
        _chain(name, "through", "filter", _HOOK_FORWARD, _PRIORITY_FILTER),
        _rule(name, "out", _address(_SOURCE_OFFSET, subnet), _link(_META_OUT_NAME, link, _DIFFERENT), _masquerade()),
        _rule(name, "through", _link(_META_IN_NAME, link), _link(_META_OUT_NAME, link), _verdict(_DROP)),
        _chain(name, "first", "filter", _HOOK_PRE_ROUTING, _PRIORITY_RAW),
        *_policy(name, link, egress),
    ]
    connection = Netlink.open(_NETLINK_NETFILTER)
    try:
        connection.request([_bound(_BATCH_BEGIN), *batch, _bound(_BATCH_END)], answers=len(batch))
    except OSError:
        connection.close()
        raise
    return connection


def _policy(name: str, link: str, egress: Egress) -> list[bytes]:
    """The rules of the chain "first", for what comes from sandboxes."""
    inside = _link(_META_IN_NAME, link)
    if egress.only is not None:
        allowed = [
            _rule(name, "first", inside, _address(_TARGET_OFFSET, network), _verdict(_ACCEPT))
            for network in egress.only
        ]
        return [*allowed, _rule(name, "first", inside, _verdict(_DROP))]
    if egress.link_local:
        return []
    return [_rule(name, "first", inside, _address(_TARGET_OFFSET, LINK_LOCAL), _verdict(_DROP))]


def _bound(kind: int) -> bytes:
    return message(kind, struct.pack(">BBH", 0, 0, _NFTABLES), acknowledge=False)


def _message(kind: int, *attributes: bytes, flags: int = CREATE) -> bytes:
    body = struct.pack(">BBH", _FAMILY_IPV4, 0, 0) + b"".join(attributes)
    return message(_NFTABLES << 8 | kind, body, flags)


def _big(kind: int, value: int) -> bytes:
    """A 32-bit integer in network order, as nftables wants them."""
    return attribute(kind, struct.pack(">i", value))


def _chain(table: str, name: str, kind: str, hook: int, priority: int) -> bytes:
    place = nested(4, _big(1, hook), _big(2, priority))
    return _message(_NEW_CHAIN, attribute(1, table), attribute(3, name), place, attribute(7, kind))


def _rule(table: str, chain: str, *expressions: bytes) -> bytes:
    listed = nested(4, *expressions)
    return _message(_NEW_RULE, attribute(1, table), attribute(2, chain), listed, flags=0x400 | _APPEND)


def _expression(name: str, *data: bytes) -> bytes:
    return nested(1, attribute(1, name), nested(2, *data))


def _compare(value: bytes, operation: int = _EQUAL) -> bytes:
    return _expression("cmp", _big(1, _REGISTER), _big(2, operation), nested(3, attribute(1, value)))


def _link(key: int, name: str, operation: int = _EQUAL) -> bytes:
    loaded = _expression("meta", _big(1, _REGISTER), _big(2, key))
    return loaded + _compare(name.encode().ljust(16, b"\0"), operation)


def _address(offset: int, network: Network) -> bytes:
    loaded = _expression("payload", _big(1, _REGISTER), _big(2, 1), _big(3, offset), _big(4, 4))
    mask, zero = nested(4, attribute(1, network.netmask.packed)), nested(5, attribute(1, bytes(4)))
    masked = _expression("bitwise", _big(1, _REGISTER), _big(2, _REGISTER), _big(3, 4), mask, zero)
    return loaded + masked + _compare(network.network_address.packed)


def _masquerade() -> bytes:
    return _expression("masq")


def _verdict(code: int) -> bytes:
    verdict = nested(2, nested(2, _big(1, code)))
    return _expression("immediate", _big(1, 0), verdict)
