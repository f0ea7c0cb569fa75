"""uvicorn's HTTP protocol, with a way around it for the bytes of large blobs, in and out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry.api.sending import FILE_SENDER
from registry.api.socket_bodies import SOCKET_BODY
from registry.server.file_sender import FileSender
from registry.server.socket_body import SocketBody

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

ROOM = 512 << 10
"""Bytes of a request body that wait for the application before the connection is no longer read."""


class RegistryProtocol(HttpToolsProtocol):
    """Offers ``FileSender`` and ``SocketBody`` to the application of each request on a connection without TLS."""

    parsed = 0
    """Bytes of the body of the last request that the parser has seen."""
    _skipping = 0

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._skipping:
            skipped = min(self._skipping, len(data))
            self._skipping -= skipped
            data = data[skipped:]
            if not data:
                self._unset_keepalive_if_required()
                return
        super().data_received(data)

    def skip_body(self, left: int) -> None:
        """Read on behind a body of which ``left`` bytes were not read by ``SocketBody``, and are dropped."""
        if self.transport.is_closing():
            return
        self._skipping = left
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets up its own
        self.flow.resume_reading()

    def on_message_begin(self) -> None:
        """See uvicorn."""
        self.parsed = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """See uvicorn: the request's task is made here, and begins to run later."""
        scope = self.scope
        super().on_headers_complete()
        if self.cycle.scope is scope and scope["scheme"] == "http":
            extensions: dict[str, object] = {
                FILE_SENDER: partial(FileSender, self.transport, self.cycle),
                SOCKET_BODY: partial(SocketBody, self, self.cycle),
            }
            cast("dict[str, object]", scope)["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        """As uvicorn's, with room for what arrives while a chunk is written: fewer stops of the connection."""
        cycle = self.cycle
        self.parsed += len(body)
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > ROOM:
            self.flow.pause_reading()
        cycle.message_event.set()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # the interface of asyncio says so
        """A client that has sent a whole request and closed its side still waits for the answer."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.more_body or cycle.response_complete:
            return None
        cycle.keep_alive = False
        return True
