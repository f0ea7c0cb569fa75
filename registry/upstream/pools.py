"""*Pools* of connections, one for each server that a mirror speaks to.

Tests: ``tests/upstream/test_client.py``.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import unquote

from cachetools import LRUCache
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import ProxyConfig
from urllib3.util import make_headers, parse_url

from registry.storage.object_store.retry import KEPT_ALIVE
from registry.upstream.connection import SecureConnection, UpstreamConnection
from registry.upstream.proxies import proxy_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import HTTPResponse

    from registry.config.upstream_sections import UpstreamSettings
    from registry.upstream.address_guard import AddressGuard
    from registry.upstream.resolver import Resolver
    from registry.upstream.tls import TlsContexts
    from registry.upstream.url import Origin, Url

logging.getLogger("urllib3.connection").setLevel(logging.ERROR)  # its warnings quote URLs, which may be signed

SERVERS: Final = 64
"""Servers whose connections are kept: redirects may name ever new ones."""


class UpstreamPool(HTTPConnectionPool):
    """Connections over HTTP, or to a proxy."""

    ConnectionCls = UpstreamConnection

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401 - any connection of urllib3, or None
        if isinstance(conn, UpstreamConnection):
            conn.idle_since = monotonic()
        super()._put_conn(conn)


class SecurePool(UpstreamPool, HTTPSConnectionPool):
    """Connections over HTTPS."""

    ConnectionCls = SecureConnection


class _Way(NamedTuple):
    """How to come to a server."""

    pool: UpstreamPool
    prefix: str
    """What a proxy wants before the target; else empty."""


class Pools:
    """Any thread."""

    def __init__(
        self,
        settings: UpstreamSettings,
        own: frozenset[Origin],
        guard: AddressGuard,
        resolver: Resolver,
        contexts: TlsContexts,
    ) -> None:
        """``own`` are the origins of the mirror, which alone see its client certificate."""
        self._settings = settings
        self._own = own
        self._guard = guard
        self._resolver = resolver
        self._contexts = contexts
        self._lock = threading.Lock()
        self._ways: LRUCache[tuple[Origin, str | None], _Way] = LRUCache(SERVERS)

    def send(self, method: str, url: Url, headers: Mapping[str, str], read_timeout: float) -> HTTPResponse:
        """The answer to one request, its body not read; ``read_timeout`` in seconds is for all of its head.

        Raises what urllib3 raises, OSError, AddressRefused.
        """
        settings = self._settings
        way = self._way(url.origin)
        answer = way.pool.urlopen(
            method,
            way.prefix + url.target,
            headers=dict(headers),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            pool_timeout=math.ceil(settings.connect_timeout),
            timeout=Timeout(connect=min(settings.connect_timeout, read_timeout), read=read_timeout),
        )
        return cast("HTTPResponse", answer)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            ways = list(self._ways.values())
            self._ways.clear()
        for way in ways:
            way.pool.close()

    def _way(self, origin: Origin) -> _Way:
        proxy = proxy_of(origin, self._settings.proxy)
        if proxy is not None:
            self._guard.check_name(origin)
        dropped: _Way | None = None
        with self._lock:
            way = self._ways.get((origin, proxy))
            if way is None:
                if len(self._ways) >= SERVERS:
                    dropped = self._ways.popitem()[1]
                way = self._direct(origin) if proxy is None else self._through(origin, proxy)
                self._ways[origin, proxy] = way
        if dropped is not None:
            dropped.pool.close()
        return way

    def _direct(self, origin: Origin) -> _Way:
        return _Way(self._pool(origin, find=lambda seconds: self._guard.addresses(origin, seconds)), "")

    def _through(self, origin: Origin, address: str) -> _Way:
        proxy = parse_url(address)
        host = (proxy.host or "").strip("[]")
        user = make_headers(proxy_basic_auth=unquote(proxy.auth)) if proxy.auth else {}
        context = ssl.create_default_context() if proxy.scheme == "https" else None
        options: dict[str, Any] = {
            "find": lambda seconds: self._resolver.addresses(host, seconds),
            "_proxy": proxy,
            "_proxy_headers": user,
            "_proxy_config": ProxyConfig(
                context, use_forwarding_for_https=False, assert_hostname=None, assert_fingerprint=None
            ),
        }
        if origin.scheme == "https":
            return _Way(self._pool(origin, **options), "")
        port = proxy.port or (443 if context is not None else 80)
        if context is None:
            return _Way(UpstreamPool(host, port, **self._options(), **options), str(origin))
        return _Way(SecurePool(host, port, ssl_context=context, **self._options(), **options), str(origin))

    def _pool(self, origin: Origin, **options: Any) -> UpstreamPool:  # noqa: ANN401 - those of urllib3
        if origin.scheme == "http":
            return UpstreamPool(origin.host, origin.port, **self._options(), **options)
        context = self._contexts.context(is_own=origin in self._own, is_named=self._guard.is_named(origin))
        return SecurePool(origin.host, origin.port, ssl_context=context, **self._options(), **options)

    def _options(self) -> dict[str, Any]:
        return {"maxsize": self._settings.connections, "block": True, "socket_options": KEPT_ALIVE}
