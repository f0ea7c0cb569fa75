"""*Address guard*: which addresses an upstream may send a mirror to (server-side request forgery).

Redirects and realms are what a server of another organisation says. So each of their names is resolved here, every one
of its addresses is checked, and the connection goes to an address that was checked: the name is not resolved again.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from registry.upstream.errors import AddressRefused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from ipaddress import IPv4Network

    from registry.upstream.resolver import Resolver
    from registry.upstream.url import Origin

    Network = IPv4Network | IPv6Network

_SPECIAL: Final = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24
192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4
::/96 ::ffff:0:0/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7 fe80::/10
fec0::/10 ff00::/8
"""
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(map(ip_network, _SPECIAL.split()))
"""Everything that the registries of special addresses do not call global, and what has an IPv4 address in it.

Spelled out: ``is_global`` of the standard library has changed its mind between minor releases.
"""
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""How a network without IPv4 reaches it; the address that it stands for is checked."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether this address is one of the public internet."""
    if isinstance(address, IPv6Address) and address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


class AddressGuard:
    """The addresses of one mirror. Any thread."""

    def __init__(
        self, trusted: Collection[Origin], hosts: Iterable[str], allowed: Iterable[str], resolver: Resolver
    ) -> None:
        """``trusted`` origins and ``hosts`` are where the settings say they are, also in private networks.

        ``hosts`` may have a port (``auth.example.org:5001``). ``allowed`` are names, ``*.`` before a name for all below
        it, and networks.
        """
        self._trusted = trusted
        self._hosts = frozenset(hosts)
        self._names: set[str] = set()
        self._networks: list[Network] = []
        self._resolver = resolver
        for entry in allowed:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                self._names.add(entry.lower())

    def is_named(self, origin: Origin) -> bool:
        """Whether the settings name this server, so that it may be anywhere."""
        own = origin in self._trusted or not self._hosts.isdisjoint((origin.host, f"{origin.host}:{origin.port}"))
        return own or self._is_allowed(origin.host)

    def addresses(self, origin: Origin, seconds: float) -> Sequence[str]:
        """Where to connect to, at least one address. Raises AddressRefused, NameUnknown."""
        found = self._resolver.addresses(origin.host, seconds)
        if not self.is_named(origin):
            for address in found:
                self._check(origin.host, ip_address(address.partition("%")[0]))
        return found

    def check_name(self, origin: Origin) -> None:
        """Check a server that a proxy connects to, which resolves names by itself. Raises AddressRefused."""
        if self.is_named(origin):
            return
        try:
            address = ip_address(origin.host)
        except ValueError:
            reason = "a proxy resolves its name, so that its address cannot be checked: name it in allowed_hosts"
            raise AddressRefused(f"{origin.host} is refused: {reason}") from None
        self._check(origin.host, address)

    def _check(self, host: str, address: IPv4Address | IPv6Address) -> None:
        if is_public(address) or any(
            address in network for network in self._networks if network.version == address.version
        ):
            return
        shown = f"{host}, which is {address}," if host != str(address) else host
        raise AddressRefused(f"{shown} is refused: it is no public address, and not in allowed_hosts")

    def _is_allowed(self, host: str) -> bool:
        parts = host.split(".")
        return host in self._names or any(f"*.{'.'.join(parts[at:])}" in self._names for at in range(1, len(parts)))
