"""URLs in answers: relative by default, absolute behind ``external_url`` or a trusted proxy that says where it is."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.types import Scope

    from registry.config import HttpSettings

_HOST = re.compile(r"(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


class Locations:
    """Makes the URLs of Location and Link headers."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._is_trusted = lru_cache(maxsize=1024)(self._matches)

    def url(self, request: Request, path: str) -> str:
        """``path`` (from ``/v2/`` on) as the client of ``request`` can use it. Only what is a host gets into it."""
        return self._base(request) + path

    def client_of(self, scope: Scope) -> str | None:
        """The address of the client, behind trusted proxies too."""
        return self.address(scope["client"][0] if scope.get("client") else None, scope["headers"])

    def address(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """See ``client_of``: of a request with these headers from ``peer``."""
        if peer is None or not self._is_trusted(peer):
            return peer
        for name, value in headers:
            if name == b"x-forwarded-for":
                return value.decode("latin-1").rsplit(",", 1)[-1].strip()[:64]
        return peer

    def _base(self, request: Request) -> str:
        settings = self._settings
        if settings.external_url is not None:
            return settings.external_url
        forwarded = self._forwarded(request)
        if forwarded is not None:
            return forwarded
        if settings.relative_locations:
            return ""
        host = request.headers.get("host", "")
        if not _HOST.fullmatch(host):
            return ""
        return f"{request.url.scheme}://{host}"

    def _forwarded(self, request: Request) -> str | None:
        if not any(name.startswith(b"x-forwarded-") for name, _ in request.scope["headers"]):
            return None
        headers = request.headers
        given = [headers.get(f"x-forwarded-{name}") for name in ("proto", "host", "prefix")]
        if not any(given) or request.client is None or not self._is_trusted(request.client.host):
            return None
        proto, host, prefix = (value.split(",")[0].strip() if value else "" for value in given)
        host = host or headers.get("host", "")
        if not _HOST.fullmatch(host):
            return None
        scheme = proto if proto in {"http", "https"} else request.url.scheme
        return f"{scheme}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}"

    def _matches(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._settings.trusted_proxies)
