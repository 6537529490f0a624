"""Where guests may send HTTP requests: `spec.http.allow`, deny by default. Pure.

An entry is a host name, `*.` and a name (any name below it), or an address, each with or without a port; without one
it means 80 for http and 443 for https. Names never lead to addresses of this machine or of its link, where metadata
services are: those must be listed themselves, as addresses or `localhost`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from perdure.manifests.worker import split_authority

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA = (ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200"))
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class _Entry:
    host: str
    port: int | None

    def allows(self, host: str, port: int, scheme: str) -> bool:
        if port != (_PORTS[scheme] if self.port is None else self.port):
            return False
        return host.endswith(self.host[1:]) and len(host) >= len(self.host) if self._below else host == self.host

    @property
    def _below(self) -> bool:
        return self.host.startswith("*.")


class Egress:
    """`allow`: entries of the manifest, which are well formed."""

    def __init__(self, allow: Iterable[str]) -> None:
        self._entries = tuple(_Entry(_plain(host), port) for host, port in map(split_authority, allow))

    def refusal(self, scheme: str, authority: str) -> str | None:
        """Why a request must not be sent, or None."""
        host, given = split_authority(authority)
        port = _PORTS[scheme] if given is None else given
        host = _plain(host)
        if not any(entry.allows(host, port, scheme) for entry in self._entries):
            return f"{host}:{port} is not in spec.http.allow"
        return None

    def may_reach(self, host: str, address: str) -> bool:
        """Whether a name that is allowed may be at that address."""
        found = parsed(address)
        if found is None or not _near(found):
            return found is not None
        plain = _plain(host)
        listed = any(entry.host == plain for entry in self._entries)
        return listed and (plain == "localhost" or parsed(plain) is not None)


def parsed(text: str) -> Address | None:
    """An address as it is meant: what is IPv4 in IPv6's clothes is IPv4."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return found.ipv4_mapped
        if found.sixtofour is not None:
            return found.sixtofour
        if found in _NAT64:
            return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found


def _near(address: Address) -> bool:
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address in _METADATA
        or address == ipaddress.ip_address("255.255.255.255")
    )


def _plain(host: str) -> str:
    host = host.lower().rstrip(".")
    address = parsed(host)
    return host if address is None else str(address)
