"""External URLs: the addresses in Location and Link headers. A path unless absolute URLs are configured."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from registry.api.http.forwarding import HOST

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.http.forwarding import Forwarding
    from registry.config.sections import HttpSettings


class ExternalUrls:
    """Makes the URLs of Location and Link headers."""

    def __init__(self, settings: HttpSettings, forwarding: Forwarding) -> None:
        self._settings = settings
        self._forwarding = forwarding
        self._external_path = urlsplit(settings.external_url or "").path

    def url(self, request: Request, path: str) -> str:
        """``path`` (from ``/v2/`` on) as the client of ``request`` can use it.

        A path is right behind every proxy, with the prefix that one cuts off. It is made absolute only where
        ``relative_locations`` is off, and from what is known as a whole: half an address would be a guess.
        """
        settings, forwarding = self._settings, self._forwarding
        if settings.external_url is not None:
            return (self._external_path if settings.relative_locations else settings.external_url) + path
        prefix = forwarding.prefix(request.scope)
        if settings.relative_locations:
            return prefix + path
        origin = forwarding.origin(request.scope)
        return (_own_origin(request) if origin is None else origin) + prefix + path

    def absolute(self, request: Request, path: str) -> str:
        """``path`` with scheme and host, as the client itself has named the registry, for what takes no relative URL.

        A client may refuse to send a password to any other host. The scheme is that of ``external_url``: a proxy that
        says nothing has ended TLS.
        """
        external, forwarding = self._settings.external_url, self._forwarding
        origin = forwarding.origin(request.scope) or _own_origin(request)
        if external is None:
            return f"{origin}{forwarding.prefix(request.scope)}{path}"
        if not origin:
            return external + path
        return f"{urlsplit(external).scheme}://{origin.partition('://')[2]}{self._external_path}{path}"


def _own_origin(request: Request) -> str:
    """Scheme and host of the connection itself; empty if the client names no host."""
    host = request.headers.get("host", "")
    return f"{request.scope['scheme']}://{host}" if HOST.fullmatch(host) else ""
