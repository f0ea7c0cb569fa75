"""*Forwarding*: what trusted proxies say of a request in X-Forwarded-For, -Proto, -Host and -Prefix.

Each header is one list, in however many lines it comes: a proxy adds its part at the end, or in a line of its own.
``Forwarded`` (RFC 7239), ``Via`` and ``X-Forwarded-Port`` are not read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from registry.api.http.fields import first_lines, members

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from starlette.types import Scope

    RawHeaders = Iterable[tuple[bytes, bytes]]

HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""What is a host, perhaps with a port; nothing else gets into a URL."""
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_LONGEST_PREFIX = 512
_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDED_PREFIX = b"x-forwarded-prefix"
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::[0-9]{1,5})?")
_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")
_LONGEST_ADDRESS = 64
"""Characters of an address with brackets and port; what is longer is none, and is not remembered either."""


class _Hop(NamedTuple):
    """A machine that a request came through, or from."""

    address: str
    """As ``ipaddress`` writes it; IPv4 without the frame of IPv6 in which a dual socket shows it."""
    is_trusted: bool


class Forwarding:
    """Believes the networks of ``http.trusted_proxies``, and nothing else."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted
        self._hop = lru_cache(maxsize=4096)(self._look)

    def client(self, peer: str | None, headers: RawHeaders) -> str | None:
        """The address of the client of a request that came from ``peer``.

        X-Forwarded-For is read from its right end past trusted proxies: what stands further left the client wrote
        itself. A member that is no address (nor is one with a zone, which may be any text) ends the walk at the proxy
        that named it. None if there is no peer.
        """
        if peer is None:
            return None
        hop = self._hop(peer)
        if hop is None:
            return peer
        if hop.is_trusted:
            for name, _ in headers:  # most requests have no such header: the list is read where there is one
                if name == _FORWARDED_FOR:
                    return self._walk(hop, headers).address
        return hop.address

    def prefix(self, scope: Scope) -> str:
        """The path below which the client sees the registry, as ``/team/registry``; empty if it sees the root.

        Each proxy that cuts a path off adds it to the list, the outermost first.
        """
        if _FORWARDED_PREFIX not in first_lines(scope) or not self._is_believed(scope):
            return ""
        prefix = "".join(member.rstrip("/") for member in members(scope["headers"], _FORWARDED_PREFIX))
        return prefix if len(prefix) <= _LONGEST_PREFIX and _PREFIX.fullmatch(prefix) else ""

    def origin(self, scope: Scope) -> str | None:
        """Scheme and host as the client sees them, where a proxy says both; empty where one says less than that.

        None if no proxy says anything. The first member of each list is the outermost proxy's.
        """
        headers = scope["headers"]
        if not self._is_believed(scope) or not any(name.startswith(b"x-forwarded-") for name, _ in headers):
            return None
        scheme = "".join(members(headers, b"x-forwarded-proto")[:1]).lower()
        host = "".join(members(headers, b"x-forwarded-host")[:1])
        return f"{scheme}://{host}" if scheme in {"http", "https"} and HOST.fullmatch(host) else ""

    def _walk(self, hop: _Hop, headers: RawHeaders) -> _Hop:
        """The first machine that is not trusted, from ``hop`` on; the last that is named if all are trusted."""
        for text in reversed(members(headers, _FORWARDED_FOR)):
            further = self._hop(text) if len(text) <= _LONGEST_ADDRESS and "%" not in text else None
            if further is None:
                break
            hop = further
            if not hop.is_trusted:
                break
        return hop

    def believes(self, peer: str | None) -> bool:
        """Whether the other end of a connection is a trusted proxy."""
        hop = self._peer(peer)
        return hop is not None and hop.is_trusted

    def _is_believed(self, scope: Scope) -> bool:
        return self.believes(scope["client"][0] if scope.get("client") else None)

    def _peer(self, peer: str | None) -> _Hop | None:
        """The other end of the connection; None if it has no address, as behind a socket of Unix."""
        return None if peer is None else self._hop(peer)

    def _look(self, text: str) -> _Hop | None:
        """The address that ``text`` is, with a port or in brackets too; None if it is none."""
        match = _BRACKETED.fullmatch(text) or _WITH_PORT.fullmatch(text)
        try:
            address = ip_address(match[1] if match else text)
        except ValueError:
            return None
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        return _Hop(str(address), any(address in network for network in self._trusted))
