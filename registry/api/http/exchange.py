"""*Exchange*: what passes during one request, counted; an answer that is whole goes to the server in one piece.

Tests: ``tests/server/test_log.py``, ``tests/server/test_cycle.py``.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from registry.api.cache.response_cache import RawHeaders

    Take = Callable[[], bytes | None]
    """Takes the body of the request, if all of it is here; None if it has to be received."""
    Write = Callable[[int, RawHeaders, bytes | memoryview], bool]
    """Writes status, headers and body. False, and nothing is written, where that has to wait."""

API_VERSION: Final = (b"docker-distribution-api-version", b"registry/2.0")
"""On every answer: old clients take it for the proof that this is a registry (``docker manifest``, old logins)."""
REQUEST_ID: Final = b"x-request-id"
WHOLE: Final = "registry.whole"
"""The extension of a scope that is a ``Write``."""
ARRIVED: Final = "registry.arrived"
"""The extension of a scope that is a ``Take``."""
RESET: Final = "registry.reset"
"""The extension of a scope that tells whether the client has ended its connection, where no bytes show that.

A client that closes with bytes unread is one that has closed its side, for the server, until it is sent more.
"""
EXCHANGE: Final = "registry.exchange"
"""The key of a scope with its exchange."""
_DIGEST: Final = b"docker-content-digest"
_NOTHING: Final[dict[str, Any]] = {}


class AnswerCut(Exception):
    """An answer ends before its length, and its connection with it: what follows cannot be had. It was logged."""


class Exchange:
    """One request and its answer, which gets two headers. For the event loop's thread alone."""

    digest: str | None = None
    """What the answer has as Docker-Content-Digest."""
    received = 0
    """Bytes of the body that the application has read."""
    sent = 0
    status = 499
    """Until an answer begins: the client went away before (nginx's number for it)."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """``receive`` and ``send`` are the server's. Notes itself in the scope."""
        self.began = perf_counter()
        self.request_id = request_id
        self._is_head = scope["method"] == "HEAD"
        self._receive = receive
        self._send = send
        offered = scope.get("extensions", _NOTHING)
        self._write: Write | None = offered.get(WHOLE)
        self._take: Take | None = offered.get(ARRIVED)
        scope[EXCHANGE] = self
        scope["registry.request_id"] = request_id

    def take_arrived(self) -> bytes | None:
        """The body of the request, if all of it has come before this; None if it has to be received."""
        if self._take is None:
            return None
        body = self._take()
        self.received += len(body or b"")
        return body

    async def receive(self) -> Message:
        """See ASGI."""
        message = await self._receive()
        self.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if message["type"] == "http.response.start":
            headers = self._begin(message["status"], message.get("headers", ()))
            message = {**message, "headers": headers}
        elif not self._is_head:
            self.sent += len(message.get("body", b""))
        await self._send(message)

    async def answer(self, response: Response) -> None:
        """Send a whole answer."""
        status, body = response.status_code, response.body
        headers = self._begin(status, response.raw_headers)
        if not self._is_head:
            self.sent += len(body)
        if self._write is None or not self._write(status, headers, body):
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
        self.status = status
        for name, value in headers:
            if name == _DIGEST:
                self.digest = value.decode("latin-1")
                break
        return [*headers, API_VERSION, (REQUEST_ID, self.request_id.encode())]
