"""The HTTP protocol of the registry: a way around uvicorn's for reads from memory, and for large blobs, in and out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from registry.api.cache.lookup import FOR_ROUTES
from registry.api.http.blob_response import FILE_SENDER
from registry.api.http.direct_upload import SOCKET_BODY
from registry.oci.errors import MalformedRequest
from registry.server.deadlines import Wait
from registry.server.direct_io.file_sender import FileSender
from registry.server.direct_io.socket_body import SocketBody
from registry.server.expectation import end_where_it_is_not_met
from registry.server.framed_protocol import FramedProtocol

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from registry.api.cache.lookup import CacheHit, CacheLookup
    from registry.api.http.access_log import AccessLog
    from registry.oci.errors import RegistryError

ROOM = 512 << 10
"""Bytes of a request body that wait for the application before the connection is no longer read."""
LEAST_ROOM = 64 << 10
"""The same where there are many connections."""
ROOMS = 16 << 20
"""The same of all connections, unless each has LEAST_ROOM.

One read of the loop comes on top, of up to 256 KB: where there are more than 64 connections the first one is enough.
"""


class RegistryProtocol(FramedProtocol):
    """Answers what the application remembers at once; everything else goes uvicorn's way, through a task.

    Offers ``FileSender`` and ``SocketBody`` to the application of each request on a connection without TLS.
    """

    _short = False
    """Whether the last request is answered from memory, without a cycle of its own."""
    _found: CacheHit | None = None
    """What the last request will be answered with, if it is told that this is current."""
    _lookup: CacheLookup
    _default_headers: object = None
    _default_lines = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See asyncio."""
        super().connection_made(transport)
        self._lookup = cast("AccessLog", self.app).lookup

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._skipping:
            skipped = min(self._skipping, len(data))
            self._skipping -= skipped
            data = data[skipped:]
            if not data:
                return
        if self._is_apart or len(data) > self._harmless:
            self.feed_slices(data)
        elif again := self.feed(data):
            self.feed_slices(again)

    def skip_body(self, left: int) -> None:
        """Read on behind a body of which ``left`` bytes were not read by ``SocketBody``, and are dropped."""
        if self.transport.is_closing():
            return
        self._skipping = left
        self._between = True
        self.parser = httptools.HttpRequestParser(self)
        self.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._wait_no_more()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """See uvicorn: a connection without a cycle is closed at once."""
        self._wait_no_more()
        super().shutdown()

    def on_message_begin(self) -> None:
        """See uvicorn, which makes the scope of ASGI here; a request that is answered from memory needs none."""
        if self._found is not None:
            self._go_long_way()
        if self._is_last:
            raise MalformedRequest
        self.begun += 1
        self.parsed = self._size = self._hosts = 0
        self._between = self._short = False
        self._in_head = True
        self.url = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        """See uvicorn, which makes a task here; what memory has an answer to waits to be told that it is current."""
        headers = self.headers
        if self._size or self._measures or len(headers) > self._most_headers:
            self.check_bounds()
        path, _, query = self.url.partition(b"?")
        found = None
        if may_be_short := self._may_be_short(path):
            method, peer = self.parser.get_method().decode("ascii"), self.client[0] if self.client else None
            found = self._lookup.find(method, path.decode("ascii"), query, headers, peer)
        if found is not None:
            self._in_head = False
            self._short, self._found = True, found
            self._lookup.validate(found, partial(self._answer_from_cache, found))
        elif self.is_framed():
            self._go_long_way(asks_cache=not may_be_short)

    def on_message_complete(self) -> None:
        """See uvicorn."""
        if self._reframes:
            return
        self._between = True
        if not self._short:
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        """As uvicorn's, with room for what arrives while a chunk is written: fewer stops of the connection."""
        super().on_body(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > max(LEAST_ROOM, min(ROOM, ROOMS // len(self.connections))):
            self.flow.pause_reading()
        cycle.message_event.set()

    def refuse(self, error: RegistryError) -> None:
        """See FramedProtocol."""
        self._wait_no_more()
        super().refuse(error)

    def standing(self) -> tuple[Wait, object]:
        """See ``Watched``."""
        return super().standing() if self._found is None else (Wait.US, None)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # the interface of asyncio says so
        """See FramedProtocol."""
        self._wait_no_more()
        return super().eof_received()

    def _may_be_short(self, path: bytes) -> bool:
        """Whether no other answer is being sent on this connection, and it stays open behind this one."""
        cycle: RequestResponseCycle | None = self.cycle
        return (
            (cycle is None or cycle.response_complete)
            and self._hosts == 1
            and not self.flow.write_paused
            and b"%" not in path
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
        )

    def _answer_from_cache(self, found: CacheHit, is_current: bool) -> None:  # noqa: FBT001 - see CacheLookup
        """Write the answer in one piece, if it is current and its request still waits."""
        if found is not self._found:
            return
        if not is_current or self.flow.write_paused:
            self._go_long_way(asks_cache=is_current)
            return
        self._found = None
        cached = self._lookup.say(found)
        head = STATUS_LINE[cached.status] + self._lines_of_server() + cached.lines()
        self.transport.write(head + cached.body)
        self.server_state.total_requests += 1

    def _wait_no_more(self) -> None:
        """Something happens to the connection: a request that waits to be told goes on as uvicorn has it."""
        if self._found is not None:
            self._go_long_way()

    def _go_long_way(self, *, asks_cache: bool = True) -> None:
        """Begin the request's task, as uvicorn does when the head is complete. ``asks_cache``: it may look there."""
        found, self._short, self._found = self._found, False, None
        self._begin_scope()
        scope = self.scope
        HttpToolsProtocol.on_headers_complete(self)
        if found is not None:  # the parser may be at the next request by now
            scope["method"], scope["http_version"] = found.method, "1.1"
            self.cycle.keep_alive = True
        self.headers = []  # trailers are not for the application
        if not asks_cache:
            cast("dict[str, object]", scope)[FOR_ROUTES] = True
        if self.is_spare:
            self.cycle.keep_alive = False
        self._is_last = not self.cycle.keep_alive
        if self.expect_100_continue:
            end_where_it_is_not_met(self.cycle, lambda: self.parsed > 0)
        if self.cycle.scope is scope and scope["scheme"] == "http":
            extensions: dict[str, object] = {
                FILE_SENDER: partial(FileSender, self.transport, self.cycle),
                SOCKET_BODY: partial(SocketBody, self, self.cycle),
            }
            cast("dict[str, object]", scope)["extensions"] = extensions
        if self._between:  # the message was complete before it went this way
            super().on_message_complete()

    def _lines_of_server(self) -> bytes:
        """The headers that the server adds to every answer: a new list each second, for the date."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
        return self._default_lines

    def _begin_scope(self) -> None:
        """Make the scope, which uvicorn does when a message begins."""
        url, headers = self.url, self.headers
        HttpToolsProtocol.on_message_begin(self)
        self.url = url
        self.headers.extend(headers)  # the list that the scope has
        self.expect_100_continue = self.parser.get_http_version() != "1.0" and _expects_100(headers)


def _expects_100(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
