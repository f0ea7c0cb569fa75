"""*Cycle*: one request of HTTP and its answer, whose head is checked and written in one go."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from registry.api.http.exchange import AnswerCut

if TYPE_CHECKING:
    import logging

    from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPScope
    from uvicorn.protocols.http.flow_control import FlowControl

    from registry.api.cache.response_cache import RawHeaders

_NOT_IN_NAMES: Final = bytes([*range(33), 127]) + b'()<>@,;:\\"[]={}'
_NOT_IN_VALUES: Final = bytes([*range(9), *range(10, 32), 127])
_ENDS: Final = bytes(10 if byte in _NOT_IN_VALUES else byte for byte in range(256))
"""Makes of each control character the end of a line."""
_LENGTH, _CODING, _CONNECTION = b"\r\ncontent-length: ", b"\r\ntransfer-encoding: ", b"\r\nconnection: "
"""Beginnings of the lines that say where an answer ends, and its connection, behind the end of a line."""
_WITHOUT_BODY: Final = frozenset({204, 304})
_SHORT: Final = 16 << 10
"""Bytes of a body that are copied behind their head, so that both leave at once."""
_ENDED: Final = cast("HTTPScope", {})
"""The scope of a request that has ended."""


class Connection(Protocol):
    """What a cycle tells its connection."""

    def on_response_complete(self) -> None:
        """The answer is written."""

    def end_behind(self, cycle: RequestResponseCycle) -> None:
        """So it is, and it is the last of the connection. Called before ``on_response_complete``."""


class Cycle(RequestResponseCycle):
    """What an application of ASGI receives from and sends to, as uvicorn's.

    A head that is no HTTP raises RuntimeError, and nothing of it is sent.
    """

    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0

    def __init__(
        self,
        scope: HTTPScope,
        transport: asyncio.Transport,
        flow: FlowControl,
        logger: logging.Logger,
        lines: bytes,
        connection: Connection,
        *,
        waits_to_be_told: bool = False,
        keep_alive: bool = True,
    ) -> None:
        """``lines`` begin every head; ``waits_to_be_told``: the client sends its body when it is told to go on."""
        self.scope = scope
        self.transport = transport
        self.flow = flow
        self.logger = logger
        self.on_response = connection.on_response_complete
        self._end_connection = connection.end_behind
        self.message_event = asyncio.Event()
        self.waiting_for_100_continue = waits_to_be_told
        self.keep_alive = keep_alive
        self.body = bytearray()
        self._lines = lines
        self._is_head = scope["method"] == "HEAD"

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Have the application answer the request; what it raises is logged and answered 500.

        What is left of the request frees itself: its scope refers to the cycle, which lets go of the scope.
        """
        try:
            await app(self.scope, self.receive, self.send)
        except AnswerCut:
            self.transport.close()
        except BaseException as error:  # noqa: BLE001 - as uvicorn does: also a task that is cancelled is answered
            await self._fail("Exception in ASGI application\n", error)
        else:
            if not self.response_complete and not self.disconnected:
                await self._fail("ASGI callable returned without a complete response.", None)
        finally:
            self.on_response = _do_nothing
            self.scope = _ENDED

    async def _fail(self, problem: str, error: BaseException | None) -> None:
        self.logger.error(problem, exc_info=error)
        if self.response_started:
            self.transport.close()
        else:
            await self.send_500_response()

    async def send(self, message: ASGISendEvent) -> None:
        """See ASGI. Waits while the client takes nothing."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if self.response_complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after response already completed.")
        expected = "http.response.body" if self.response_started else "http.response.start"
        if kind != expected:
            raise RuntimeError(f"Expected ASGI message '{expected}', but got '{kind}'.")
        if message["type"] == "http.response.start":
            self.transport.write(self._head(message["status"], list(message.get("headers", ()))))
        elif message["type"] == "http.response.body":
            self._send_body(message.get("body", b""), more=message.get("more_body", False))

    def take_arrived(self) -> bytes | None:
        """The body, if all of it is here; None where ``receive`` has to wait for it, or has something else to say."""
        if self.more_body or self.disconnected or self.response_complete or self.waiting_for_100_continue:
            return None
        self.flow.resume_reading()
        body, self.body = bytes(self.body), bytearray()
        return body

    def answer(self, status: int, headers: RawHeaders, body: bytes | memoryview) -> bool:
        """Write a whole answer in one piece. False, and nothing is written, where ``send`` may have to wait.

        Its Content-Length is that of ``body``.
        """
        if self.disconnected or self.flow.write_paused or self.response_started or self.waiting_for_100_continue:
            return False
        head = self._head(status, headers)
        if self.chunked_encoding or self._is_head:
            self.transport.write(head)
            self._send_body(body, more=False)
            return True
        if len(body) != self.expected_content_length:
            raise RuntimeError("Response content is not as long as Content-Length")
        if len(body) <= _SHORT:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self.expected_content_length = 0
        self._complete()
        return True

    def _head(self, status: int, headers: RawHeaders) -> bytes:
        """The head of the answer, which begins with it."""
        self.response_started = True
        self.waiting_for_100_continue = False
        given = b"".join([_start_of_line(name) + value + b"\r\n" for name, value in headers])
        # A control character more than the ends of these lines is in a value, and might be the end of its line.
        if given.translate(_ENDS).count(b"\n") != 2 * len(headers):
            raise RuntimeError("Invalid HTTP header value.")
        head = STATUS_LINE[status] + self._lines + given
        find = head.find  # ``in`` first takes bytes for a number, and makes the message of an error that none reads
        start = find(_LENGTH) + len(_LENGTH)
        if start < len(_LENGTH) or find(_LENGTH, start) >= 0 or find(_CONNECTION) >= 0 or find(_CODING) >= 0:
            return head + self._frame(status, headers) + b"\r\n"
        self.expected_content_length = int(head[start : head.index(b"\r", start)])
        self.chunked_encoding = False
        return head + (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")

    def _frame(self, status: int, headers: RawHeaders) -> bytes:
        """Note what the headers say of body and connection. Returns the lines that they lack."""
        says_close = False
        for name, value in headers:
            match name.lower():
                case b"content-length" if self.chunked_encoding is None:
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
                case b"transfer-encoding" if value.lower() == b"chunked":
                    self.expected_content_length = 0
                    self.chunked_encoding = True
                case b"connection":
                    says_close |= b"close" in [token.strip() for token in value.lower().split(b",")]
        lacking = b""
        if says_close:
            self.keep_alive = False
        elif not self.keep_alive:
            lacking = b"connection: close\r\n"
        if self.chunked_encoding is None and not self._is_head and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lacking += b"transfer-encoding: chunked\r\n"
        return lacking

    def _send_body(self, body: bytes | memoryview, *, more: bool) -> None:
        if self._is_head:
            self.expected_content_length = 0
        elif self.chunked_encoding:
            chunk = b"".join([b"%x\r\n" % len(body), body, b"\r\n"]) if body else b""
            self.transport.write(chunk if more else chunk + b"0\r\n\r\n")
        else:
            if len(body) > self.expected_content_length:
                raise RuntimeError("Response content longer than Content-Length")
            self.expected_content_length -= len(body)
            if body:
                self.transport.write(body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("Response content shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self._end_connection(self)
        self.on_response()


def _do_nothing() -> None:
    """What an ended request does when its answer is complete."""


@lru_cache(maxsize=256)
def _start_of_line(name: bytes) -> bytes:
    """A header's line up to its value. Raises RuntimeError for what is no name."""
    if len(name) != len(name.translate(None, _NOT_IN_NAMES)):
        raise RuntimeError("Invalid HTTP header name.")
    return name.lower() + b": "
