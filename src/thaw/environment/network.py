"""The network of the sandboxes: one bridge in a namespace of its own, one link for each sandbox, one to the host.

    sandbox eth0 ── veth ──┐
    sandbox eth0 ── veth ──┤ bridge (in the router namespace) ── veth ── host: thaw<slot>, the gateway's address
    sandbox eth0 ── veth ──┘ sandboxes' ports are isolated: they reach the gateway, not each other

The router namespace exists only as a descriptor, so that bridge and links vanish with the server. Each server takes
one of 32 slots (a /20 of 198.18.0.0/15, the range kept for tests between networks) by binding an abstract socket.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from thaw.environment import firewall
from thaw.environment.egress import Egress
from thaw.environment.netlink import CREATE, Netlink, attribute, message, nested
from thaw.environment.system_call import CLONE_NEWNET, unshare
from thaw.errors import SandboxError

SLOTS = 32
RANGE = ipaddress.IPv4Network("198.18.0.0/15")
PREFIX_LENGTH = 20
# The number of eth0 in a sandbox; high enough that no module's own devices have it.
SANDBOX_LINK = 100

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 20, 24
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER = 1
_BRPORT_ISOLATED = 33
_IFF_UP = 1
_BRIDGE_LINK, _HOST_LINK, _FIRST_LINK = 10, 11, 1000

_GUARDED = Egress()

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """What a sandbox is called on the network: its own address, the gateway's, and the prefix length of both."""

    own: ipaddress.IPv4Address
    gateway: ipaddress.IPv4Address
    prefix_length: int = PREFIX_LENGTH


class Network:
    """The network of one server's sandboxes. `warnings` says in sentences what this machine does not allow."""

    def __init__(self, subnet: ipaddress.IPv4Network | None = None, egress: Egress = _GUARDED) -> None:
        """Build it, with addresses of `subnet` (its first /20 where it is larger) instead of the slot's own.

        Raises SandboxError where the kernel has no bridge or no links, no slot is free, or functions are to reach
        certain networks only and nftables cannot hold them to it.
        """
        self.warnings: list[str] = []
        self._slot, self._claim = _claim_slot(subnet)
        self.subnet = _first_part(subnet or list(RANGE.subnets(new_prefix=PREFIX_LENGTH))[self._slot])
        self.link = f"thaw{self._slot}"
        self._free = list(range(self.subnet.num_addresses - 2, 1, -1))
        self._firewall: Netlink | None = None
        try:
            self._router, self._routing = _make_router()
            self._connect_host()
        except OSError as error:
            self._claim.close()
            message = f"The sandboxes' network cannot be built ({error}); it needs root, veth and bridge."
            raise SandboxError(message, step="network") from error
        self._open_way_out(egress)

    @property
    def gateway(self) -> ipaddress.IPv4Address:
        """The host's address as sandboxes see it."""
        return self.subnet.network_address + 1

    def connect(self, sandbox_namespace: int, sandbox_routing: int) -> Address:
        """Give a sandbox its eth0; for a thread. Takes descriptors of its network namespace and of an rtnetlink
        socket in it (which stays the caller's). Raises OSError."""
        number = self._free.pop()
        try:
            self._routing.request(_sandbox_port(number, sandbox_namespace))
            inside = Netlink.adopt(os.dup(sandbox_routing))
            try:
                address = Address(self.subnet.network_address + number, self.gateway, self.subnet.prefixlen)
                inside.request(_sandbox_link(address))
            finally:
                inside.close()
        except OSError:
            self._free.insert(0, number)
            raise
        return address

    def release(self, address: Address) -> None:
        """Let another sandbox have the address, after all others that are free (its link may take a while to go)."""
        self._free.insert(0, int(address.own) - int(self.subnet.network_address))

    def close(self) -> None:
        """Let go of bridge, links and table: the kernel removes them."""
        if self._firewall:
            self._firewall.close()
            self._firewall = None
        self._routing.close()
        if self._router >= 0:
            os.close(self._router)
            self._router = -1
        self._claim.close()

    def _connect_host(self) -> None:
        host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            bridge = _link_message(attribute(_IFLA_IFNAME, "bridge"), _kind("bridge"), index=_BRIDGE_LINK, flags=CREATE)
            self._routing.request([bridge, _port("host", _HOST_LINK, self.link, host)])
        finally:
            os.close(host)
        _refuse_ipv6(self.link)
        index = socket.if_nametoindex(self.link)
        outside = Netlink.open(socket.NETLINK_ROUTE)
        try:
            outside.request([_link_message(index=index), _address_message(index, self.gateway, self.subnet.prefixlen)])
        finally:
            outside.close()

    def _open_way_out(self, egress: Egress) -> None:
        try:
            self._firewall = firewall.open_firewall(self.link, self.subnet, self.link, egress)
        except OSError as error:
            if egress.only is not None:
                self.close()
                raise SandboxError(
                    f"The egress policy cannot be enforced, because nftables refused its table ({error}); load the "
                    "nf_tables and nft_masq modules.",
                    step="network",
                ) from error
            self.warnings.append(
                f"Functions reach this machine but not the outside, because nftables refused its table ({error}); "
                "load the nf_tables and nft_masq modules."
            )


def _refuse_ipv6(link: str) -> None:
    """Sandboxes have IPv4 only: over the link's own IPv6 address they would reach this machine past the firewall."""
    switch = Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6")
    if switch.exists():  # else the kernel has no IPv6
        switch.write_text("1")


def _first_part(subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Network:
    """A server has no use for more addresses than a /20 has, and keeps a list of the free ones."""
    return next(subnet.subnets(new_prefix=max(PREFIX_LENGTH, subnet.prefixlen)))


def _claim_slot(subnet: ipaddress.IPv4Network | None) -> tuple[int, socket.socket]:
    """The first slot whose abstract socket nobody has, nor its addresses where they are to be used."""
    taken = _local_networks() if subnet is None else []
    subnets = list(RANGE.subnets(new_prefix=PREFIX_LENGTH))
    for slot in range(SLOTS):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0thaw-network-{slot}")
        except OSError:
            claim.close()
            continue
        if not any(subnets[slot].overlaps(network) for network in taken):
            return slot, claim
        claim.close()
    raise SandboxError(f"All {SLOTS} network slots are taken by other servers or routes in {RANGE}.", step="network")


def _local_networks() -> list[ipaddress.IPv4Network]:
    """Where this machine already has routes, from /proc/net/route (addresses there are little-endian hexadecimal)."""
    networks = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        target, mask = (bytes.fromhex(fields[column])[::-1] for column in (1, 7))
        if mask != bytes(4):
            networks.append(ipaddress.IPv4Network((target, str(ipaddress.IPv4Address(mask))), strict=False))
    return networks


def _make_router() -> tuple[int, Netlink]:
    """A new network namespace, by descriptor, and an rtnetlink socket in it."""
    with ThreadPoolExecutor(1, "thaw-router") as thread:
        return thread.submit(_enter_router).result()


def _enter_router() -> tuple[int, Netlink]:
    unshare(CLONE_NEWNET)
    routing = Netlink.open(socket.NETLINK_ROUTE)
    try:
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), routing
    except OSError:
        routing.close()
        raise


def _link_message(*attributes: bytes, index: int = 0, flags: int = 0) -> bytes:
    """struct ifinfomsg, always up; without CREATE it changes the link `index` or the one that is named."""
    return message(_RTM_NEWLINK, _link_header(index) + b"".join(attributes), flags)


def _link_header(index: int, *, up: bool = True) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, _IFF_UP if up else 0, _IFF_UP if up else 0)


def _kind(name: str, *data: bytes) -> bytes:
    return nested(_IFLA_LINKINFO, attribute(_INFO_KIND, name), *data)


def _port(name: str, index: int, peer: str, namespace: int, peer_index: int = 0) -> bytes:
    """A port of the bridge whose other end is `peer` in another namespace. The kernel minds `peer_index` only where
    the port has a number of its own too."""
    other = _link_header(peer_index, up=False) + attribute(_IFLA_IFNAME, peer) + attribute(_IFLA_NET_NS_FD, namespace)
    data = nested(_INFO_DATA, nested(_VETH_INFO_PEER, other))
    named = attribute(_IFLA_IFNAME, name) + attribute(_IFLA_MASTER, _BRIDGE_LINK)
    return _link_message(named, _kind("veth", data), index=index, flags=CREATE)


def _sandbox_port(number: int, namespace: int) -> list[bytes]:
    isolated = nested(_INFO_SLAVE_DATA, attribute(_BRPORT_ISOLATED, b"\1"))
    slave = nested(_IFLA_LINKINFO, attribute(_INFO_SLAVE_KIND, "bridge"), isolated)
    index = _FIRST_LINK + number
    return [_port(f"s{number}", index, "eth0", namespace, SANDBOX_LINK), _link_message(slave, index=index)]


def _sandbox_link(address: Address) -> list[bytes]:
    # struct rtmsg: IPv4, main table, static, universe, unicast
    route = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 4, 0, 1, 0)
    route += attribute(5, address.gateway.packed) + attribute(4, SANDBOX_LINK)
    return [
        _link_message(index=SANDBOX_LINK),
        _address_message(SANDBOX_LINK, address.own, address.prefix_length),
        message(_RTM_NEWROUTE, route, CREATE),
    ]


def _address_message(index: int, address: ipaddress.IPv4Address, prefix_length: int) -> bytes:
    body = struct.pack("=BBBBi", socket.AF_INET, prefix_length, 0, 0, index)
    return message(_RTM_NEWADDR, body + attribute(2, address.packed) + attribute(1, address.packed), CREATE)
