"""The outermost layer: reads from memory first; for every request a line in the log, its metrics and two headers."""

from __future__ import annotations

import secrets
from time import perf_counter
from typing import TYPE_CHECKING, Any

from registry.api.dispatcher import TEMPLATE
from registry.api.sending import SENT
from registry.api.socket_bodies import RECEIVED
from registry.api.validators import matches
from registry.oci.digest import looks_like_digest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from registry.api.locations import Locations
    from registry.api.reads import Answer, ReadMemory
    from registry.observability.metrics import RequestTally
    from registry.observability.request_log import RequestLog

API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")
"""On every answer: old clients take it for the proof that this is a registry (``docker manifest``, old logins)."""
UNMATCHED = "unmatched"
"""The route, for metrics, of a path that is none."""
_BODY_HEADERS = (b"content-type", b"content-length")


class Observation:
    """ASGI in, ASGI out. For the event loop's thread alone."""

    def __init__(
        self,
        application: ASGIApp,
        memory: ReadMemory,
        locations: Locations,
        tally: RequestTally,
        log: RequestLog | None,
    ) -> None:
        self._application = application
        self._memory = memory
        self._locations = locations
        self._tally = tally
        self._log = log
        self._prefix = secrets.token_hex(6)
        self._number = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from memory or through the routes; what is not HTTP is passed on untouched."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began = perf_counter()
        self._number += 1
        request_id = f"{self._prefix}-{self._number:x}"
        method = scope["method"]
        if method in {"GET", "HEAD"}:
            answer = self._memory.find(scope["path"], scope["query_string"], method)
            if answer is not None and await self._send(answer, method, scope, send, request_id, began):
                return
        await self._observe(scope, receive, send, request_id, began)

    async def _send(self, answer: Answer, method: str, scope: Scope, send: Send, request_id: str, began: float) -> bool:
        """Send an answer from memory. False, with nothing sent: part of it is asked for, which the routes do."""
        agent = condition = None
        for name, value in scope["headers"]:
            if name == b"user-agent":
                agent = value.decode("latin-1")
            elif name == b"if-none-match":
                condition = value.decode("latin-1")
            elif name == b"range" and method == "GET":
                return False
        status, body, headers = 200, answer.body if method == "GET" else b"", answer.headers
        if condition is not None and answer.digest is not None and matches(condition, answer.digest):
            status, body = 304, b""
            headers = [header for header in headers if header[0] not in _BODY_HEADERS]
        headers = [*headers, API_VERSION, (b"x-request-id", request_id.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body or b""})
        seconds = perf_counter() - began
        sent = len(body or b"")
        self._tally.add(answer.route, method, status, seconds, 0, sent)
        if self._log is not None:
            client = self._locations.client_of(scope)
            self._log.add(
                request_id,
                method,
                scope["path"],
                status,
                answer.repository,
                answer.digest,
                0,
                sent,
                seconds,
                client,
                agent,
                None,
            )
        return True

    async def _observe(self, scope: Scope, receive: Receive, send: Send, request_id: str, began: float) -> None:
        state = _Counts()
        scope["registry.request_id"] = request_id

        async def counting_receive() -> Message:
            message = await receive()
            state.received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.status = message["status"]
                headers = [*message.get("headers", ()), API_VERSION, (b"x-request-id", request_id.encode())]
                state.digest = _header(headers, b"docker-content-digest")
                message = {**message, "headers": headers}
            else:
                state.sent += len(message.get("body", b"")) if scope["method"] != "HEAD" else 0
            await send(message)

        try:
            await self._application(scope, counting_receive, counting_send)
        finally:
            self._note(scope, state, request_id, perf_counter() - began)

    def _note(self, scope: Scope, state: _Counts, request_id: str, seconds: float) -> None:
        route: str = scope.get(TEMPLATE) or getattr(scope.get("route"), "path", None) or UNMATCHED
        method = scope["method"]
        state.sent += scope.get(SENT, 0)
        state.received += scope.get(RECEIVED, 0)
        self._tally.add(route, method, state.status, seconds, state.received, state.sent)
        if self._log is None:
            return
        parameters: dict[str, Any] = scope.get("path_params", {})
        reference = parameters.get("digest") or parameters.get("reference") or ""
        digest = state.digest or (reference if looks_like_digest(reference) else None)
        agent = _header(scope["headers"], b"user-agent")
        self._log.add(
            request_id,
            method,
            scope["path"],
            state.status,
            parameters.get("name"),
            digest,
            state.received,
            state.sent,
            seconds,
            self._locations.client_of(scope),
            agent,
            scope.get("registry.error_code"),
        )


class _Counts:
    """What passed during one request."""

    __slots__ = ("digest", "received", "sent", "status")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0
        self.status = 499
        """Until an answer begins: the client went away before (nginx's number for it)."""
        self.digest: str | None = None


def _header(headers: list[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return None
