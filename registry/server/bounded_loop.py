"""The event loop of a process that serves: uvloop's, whose servers take no more connections than there is room for.

Tests: ``tests/server/test_bounds.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import uvloop

from registry.server.acceptor import Acceptor

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from registry.config.sections import HttpSettings
    from registry.server.balance import Balance
    from registry.server.tls_files import TlsFiles


class BoundedLoop(uvloop.Loop):
    """Made by ``ServingConfiguration``, in the process that runs it."""

    def __init__(self, http: HttpSettings, tls: TlsFiles | None, balance: Balance | None = None) -> None:
        super().__init__()
        self._http = http
        self._tls = tls
        self._balance = balance

    async def create_server(  # type: ignore[override]  # what uvicorn asks for, of all that a loop offers
        self,
        protocol_factory: Callable[[], Any],
        *,
        sock: socket.socket,
        ssl: ssl.SSLContext | None = None,  # noqa: ARG002 - ``TlsFiles`` has another one when files change
        backlog: int = 0,  # noqa: ARG002 - it listens already
    ) -> Acceptor:
        """See asyncio. ``sock`` listens."""
        return Acceptor(self, sock, protocol_factory, self._http, self._tls, self._balance)
