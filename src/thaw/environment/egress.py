"""Where functions may connect to."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

# Where clouds hand the machine's own credentials to whoever asks (169.254.169.254 and its like).
LINK_LOCAL = IPv4Network("169.254.0.0/16")


@dataclass(frozen=True, slots=True)
class Egress:
    """`only` these networks where it is set; else everything, link-local addresses among it if `link_local`."""

    only: tuple[IPv4Network, ...] | None = None
    link_local: bool = False


def read_egress(text: str) -> Egress:
    """From the setting: "guarded", "all", or networks with commas between them. Raises ValueError."""
    if text in ("guarded", "all"):
        return Egress(link_local=text == "all")
    return Egress(only=tuple(IPv4Network(each.strip()) for each in text.split(",")))
