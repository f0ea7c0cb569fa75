"""External URLs: the addresses in Location and Link headers. A path unless absolute URLs are configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from registry.api.http.forwarding import HOST

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.api.http.forwarding import Forwarding
    from registry.config.sections import HttpSettings

ASKED_PATH: Final = "registry.asked_path"
"""The key of a scope with the path that a client sent, where it reached a mirror by another name."""


class ExternalUrls:
    """Makes the URLs of Location and Link headers."""

    def __init__(self, settings: HttpSettings, forwarding: Forwarding) -> None:
        self._external = settings.external_url
        self._is_relative = settings.relative_locations
        self._forwarding = forwarding
        self._external_path = urlsplit(settings.external_url or "").path

    def url(self, request: Request, path: str) -> str:
        """``path`` (from ``/v2/`` on) as the client of ``request`` can use it.

        A path is right behind every proxy, with the prefix that one cuts off. It is made absolute only where
        ``relative_locations`` is off, and from what is known as a whole: half an address would be a guess.
        """
        if self._external is not None:
            return (self._external_path if self._is_relative else self._external) + path
        prefix = self._forwarding.prefix(request.scope)
        if self._is_relative:
            return prefix + path
        origin = self._forwarding.origin(request.scope)
        return (_own_origin(request) if origin is None else origin) + prefix + path

    def absolute(self, request: Request, path: str) -> str:
        """``path`` with scheme and host, as the client itself has named the registry, for what takes no relative URL.

        A client may refuse to send a password to any other host.
        """
        prefix = self._forwarding.prefix(request.scope) if self._external is None else self._external_path
        return f"{self.origin(request)}{prefix}{path}"

    def origin(self, request: Request) -> str:
        """Scheme and host, as the client itself has named the registry; empty if it names none that is known.

        The scheme is that of ``external_url``: a proxy that says nothing has ended TLS.
        """
        own = self._forwarding.origin(request.scope) or _own_origin(request)
        external = self.external_origin
        return f"{urlsplit(external).scheme}://{own.partition('://')[2]}" if external and own else own or external

    @property
    def external_origin(self) -> str:
        """Scheme and host of ``external_url``; empty where there is none."""
        parts = urlsplit(self._external or "")
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _own_origin(request: Request) -> str:
    """Scheme and host of the connection itself; empty if the client names no host."""
    host = request.headers.get("host", "")
    return f"{request.scope['scheme']}://{host}" if HOST.fullmatch(host) else ""
