"""*Realm*: the address of a token service, and whether it may see the credentials of a mirror."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from registry.upstream.url import Origin

_OF_ORIGIN: Final = {
    "docker.io": "auth.docker.io",
    "index.docker.io": "auth.docker.io",
    "registry-1.docker.io": "auth.docker.io",
}
"""Token services that are neither on the host of their registry nor on its parent domain."""


def takes_credentials(realm: Origin, origin: Origin, token_hosts: Collection[str]) -> bool:
    """Whether a realm that ``origin`` names gets the credentials that are for ``origin``.

    It does on the origin itself; on its exact parent domain at the usual port of https; and where ``token_hosts``
    names it. Never over a connection that is worse than that to the origin.
    """
    if origin.scheme == "https" and realm.scheme != "https":
        return False
    if realm == origin or not {realm.host, f"{realm.host}:{realm.port}"}.isdisjoint(token_hosts):
        return True
    is_usual = realm.scheme == "https" and realm.port == 443  # noqa: PLR2004 - the port of https
    return is_usual and (realm.host == _OF_ORIGIN.get(origin.host) or realm.host == _parent(origin.host))


def _parent(host: str) -> str | None:
    """The domain above that of a host; None for addresses, and where it would be a top-level domain."""
    try:
        ip_address(host)
    except ValueError:
        parent = host.partition(".")[2]
        return parent if "." in parent.strip(".") else None
    return None
