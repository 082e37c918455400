"""Which addresses on the net are other people's, and which are our own or nobody's."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carriers' own (CGNAT); a metadata service at 100.100.100.200
            "127.0.0.0/8",  # this machine
            "168.63.129.16/32",  # a metadata service
            "169.254.0.0/16",  # link-local; metadata services
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocols; a metadata service at 192.0.0.192
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # measurements
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)

_GLOBAL_6: Final = IPv6Network("2000::/3")
"""All that is routed. Outside: loopback, mapped and translated IPv4, NAT64, local, link-local, multicast."""

_REFUSED_6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocols; among them Teredo, which hides an IPv4 address
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which hides an IPv4 address
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to some other machine on the public net."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_4)
    return address in _GLOBAL_6 and not any(address in network for network in _REFUSED_6)


def is_allowed(address: Address, own: Sequence[Network]) -> bool:
    """Tell whether requests may go to an address: it is public, or in one of our own networks named."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    return is_public(address) or any(
        address.version == network.version and address in network for network in own
    )


def read_networks(text: str) -> tuple[Network, ...]:
    """Return the networks that a text names, separated by commas; raise ValueError for anything else."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
