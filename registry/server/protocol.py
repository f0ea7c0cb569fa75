"""The HTTP protocol of the registry: a way around uvicorn's for reads from memory, and for large blobs, in and out."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from registry.api.access import PEER
from registry.api.cache.lookup import FOR_ROUTES
from registry.api.http.blob_response import FILE_SENDER
from registry.api.http.direct_upload import SOCKET_BODY
from registry.api.http.exchange import ARRIVED, RESET, WHOLE
from registry.oci.errors import MalformedRequest
from registry.server.cycle import Cycle
from registry.server.deadlines import Wait
from registry.server.direct_io.file_sender import FileSender
from registry.server.direct_io.socket_body import SocketBody
from registry.server.expectation import end_where_it_is_not_met
from registry.server.framed_protocol import FramedProtocol
from registry.server.peer import is_reset

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, HTTPScope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from registry.api.access import Peer
    from registry.api.cache.lookup import CachedAnswer, CacheHit, CacheLookup
    from registry.api.http.access_log import AccessLog
    from registry.api.login_refusal import LoginRefusal
    from registry.oci.errors import RegistryError

ROOM = 512 << 10
"""Bytes of a request body that wait for the application before the connection is no longer read."""
LEAST_ROOM = 64 << 10
"""The same where there are many connections."""
ROOMS = 16 << 20
"""The same of all connections, unless each has LEAST_ROOM.

One read of the loop comes on top, of up to 256 KB: where there are more than 64 connections the first one is enough.
"""
_READS: Final = frozenset({b"GET", b"HEAD"})
"""Methods that memory may have an answer to."""
_BLANKS: Final = b" \t"
_TASK: Final = "request"


class RegistryProtocol(FramedProtocol):
    """Answers what the application remembers at once; everything else goes uvicorn's way, through a task.

    Offers ``FileSender`` and ``SocketBody`` to the application of each request on a connection without TLS.
    """

    _short = False
    """Whether the last request is answered from memory, without a cycle of its own."""
    _found: CacheHit | None = None
    """What the last request will be answered with, if it is told that this is current."""
    _lookup: CacheLookup
    _login_refusal: LoginRefusal
    _peer: Peer
    _default_headers: object = None
    _default_lines = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See asyncio."""
        super().connection_made(transport)
        application = cast("AccessLog", self.app)
        self._lookup = application.lookup
        self._login_refusal = application.login_refusal
        tls = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self._peer = application.peer(self.client[0] if self.client else None, certificate)

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
        self._between = self._short = self._is_padded = False
        self._in_head = True
        self.url = self._expects = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        """See uvicorn, which makes a task here; what memory has an answer to waits to be told that it is current."""
        headers = self.headers
        if self._size or self._measures or len(headers) > self._most_headers:
            self.check_bounds()
        method = self.parser.get_method()
        found, may_be_short, path = None, False, b""
        if method in _READS:
            path, _, query = self.url.partition(b"?")
            if may_be_short := self._may_be_short(path):
                found = self._lookup.find(method.decode("ascii"), path.decode("ascii"), query, headers, self._peer)
        if found is not None:
            self._in_head = False
            self._short, self._found = True, found
            self._lookup.validate(found, partial(self._answer_from_cache, found))
        elif may_be_short and (refusal := self._login_refusal.find(method, path, headers, self._peer)) is not None:
            self._in_head, self._short = False, True
            self._write_at_once(refusal)
        elif self.is_framed():
            self._go_long_way(asks_cache=method in _READS and not may_be_short)

    def on_message_complete(self) -> None:
        """See uvicorn."""
        if self._reframes:
            return
        self._between = True
        if not self._short:
            self._end_body()

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
        self._write_at_once(self._lookup.say(found))

    def _write_at_once(self, answer: CachedAnswer) -> None:
        head = STATUS_LINE[answer.status] + self._lines_of_server() + answer.lines()
        self.transport.write(head + answer.body)
        self.server_state.total_requests += 1

    def _wait_no_more(self) -> None:
        """Something happens to the connection: a request that waits to be told goes on as uvicorn has it."""
        if self._found is not None:
            self._go_long_way()

    def _go_long_way(self, *, asks_cache: bool = True) -> None:
        """Begin the request's task, as uvicorn does when the head is complete. ``asks_cache``: it may look there."""
        found, self._short, self._found = self._found, False, None
        parser, headers = self.parser, self.headers
        self.headers = []  # trailers are not for the application
        if found is None:
            method, version = parser.get_method().decode("ascii"), parser.get_http_version()
            keep_alive = version != "1.0" and parser.should_keep_alive() and not self.is_spare
        else:  # the parser may be at the next request by now
            method, version, keep_alive = found.method, "1.1", not self.is_spare
        waits = self._expects.strip(_BLANKS).lower() == b"100-continue" and version != "1.0"
        scope = self._scope(method, version, headers)
        self._in_head = False
        before: RequestResponseCycle | None = self.cycle
        self.cycle = cycle = Cycle(
            scope,
            self.transport,
            self.flow,
            self.logger,
            self._lines_of_server(),
            self,
            waits_to_be_told=waits,
            keep_alive=keep_alive,
        )
        more = cast("dict[str, object]", scope)
        if not asks_cache:
            more[FOR_ROUTES] = True
        more["extensions"] = extensions = dict[str, object](
            {WHOLE: cycle.answer, ARRIVED: cycle.take_arrived, RESET: partial(is_reset, self.transport)}
        )
        if scope["scheme"] == "http":
            extensions[FILE_SENDER] = partial(FileSender, self.transport, cycle)
            extensions[SOCKET_BODY] = partial(SocketBody, self, cycle)
        self._is_last = not keep_alive
        if waits:
            end_where_it_is_not_met(cycle, lambda: self.parsed > 0)
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:  # in its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        if self._between:  # the message was complete before it went this way
            self._end_body()

    def _scope(self, method: str, version: str, headers: list[tuple[bytes, bytes]]) -> HTTPScope:
        """The scope of ASGI. Raises what makes a target malformed."""
        raw_path, _, query = self.url.partition(b"?")
        text = self.url.decode("latin-1")
        if text[:1] != "/" or "#" in text or not (text.isascii() and text.isprintable()):
            parsed = httptools.parse_url(self.url)
            raw_path, query = parsed.path, parsed.query or b""
        path = raw_path.decode("ascii")
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": method,
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            PEER: self._peer,
        }
        return cast("HTTPScope", scope)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """See uvicorn. A task that is given no name makes one up."""
        task = asyncio.Task(cycle.run_asgi(app), loop=self.loop, name=_TASK)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _end_body(self) -> None:
        """All of the request has come."""
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _lines_of_server(self) -> bytes:
        """The headers that the server adds to every answer: a new list each second, for the date."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
        return self._default_lines
