"""The outermost layer: reads from memory first; for every request a line in the log, its metrics and two headers.

Tests: ``tests/server/test_log.py``.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from registry.api.cache.lookup import API_VERSION, FOR_ROUTES, REQUEST_ID, CachedAnswer, CacheLookup, RequestIds
from registry.api.http.blob_response import SENT
from registry.api.http.direct_upload import RECEIVED
from registry.oci.digest import looks_like_digest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from registry.api.access import Caller
    from registry.api.cache.response_cache import RawHeaders
    from registry.api.context import ApiContext
    from registry.observability.metrics import RequestTally
    from registry.observability.request_log import RequestLog
    from registry.oci.errors import RegistryError

UNMATCHED = "unmatched"
"""The route, for metrics, of a path that is none."""


class AccessLog:
    """ASGI in, ASGI out. For the event loop's thread alone."""

    def __init__(
        self,
        application: ASGIApp,
        routes: ASGIApp,
        context: ApiContext,
        tally: RequestTally,
        log: RequestLog | None,
    ) -> None:
        self._application = application
        self._routes = routes
        self._context = context
        self._tally = tally
        self._log = log
        self._request_ids = RequestIds()
        self.lookup = CacheLookup(context.cache, context.access, context.redirects, tally, log, self._request_ids)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from memory or through the routes; what is not HTTP is passed on untouched."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        cached = await self._look_up(scope)
        if cached is None:
            await self._observe(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": cached.status, "headers": cached.headers()})
        await send({"type": "http.response.body", "body": cached.body})

    def refuse(self, error: RegistryError, method: str, path: str, peer: str | None) -> RawHeaders:
        """Count and log what the server answers before it is a request. Returns the headers of every answer.

        What has no path yet has no line in the log: clients that try TLS first would fill it.
        """
        request_id = next(self._request_ids)
        self._tally.add(UNMATCHED, method, error.status, 0.0, 0, 0)
        if self._log is not None and path:
            self._log.add(request_id, method, path, error.status, None, None, 0, 0, 0.0, peer, None, error.code)
        return [API_VERSION, (REQUEST_ID, request_id.encode())]

    def connections(self, count: int) -> None:
        """So many are open."""
        self._tally.connections = count

    def connection_ended(self, reason: str) -> None:
        """One was ended by the server, because its client did not get on or there was no room for it."""
        self._tally.ended[reason] += 1

    async def _look_up(self, scope: Scope) -> CachedAnswer | None:
        if FOR_ROUTES in scope:
            return None
        peer = scope["client"][0] if scope.get("client") else None
        return await self.lookup.answer(scope["method"], scope["path"], scope["query_string"], scope["headers"], peer)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        request_id = next(self._request_ids)
        state = _Counts()
        scope["registry.request_id"] = request_id
        caller = self._context.access.admit(scope)

        async def counting_receive() -> Message:
            message = await receive()
            state.received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.status = message["status"]
                headers = [*message.get("headers", ()), API_VERSION, (REQUEST_ID, request_id.encode())]
                state.digest = _header(headers, b"docker-content-digest")
                message = {**message, "headers": headers}
            else:
                state.sent += len(message.get("body", b"")) if scope["method"] != "HEAD" else 0
            await send(message)

        self._context.request_began()
        try:
            await self._routes(scope, counting_receive, counting_send)
        finally:
            self._context.request_ended()
            self._note(scope, caller, state, request_id, perf_counter() - began)

    def _note(self, scope: Scope, caller: Caller, state: _Counts, request_id: str, seconds: float) -> None:
        route: str = getattr(scope.get("route"), "path", None) or UNMATCHED
        method = scope["method"]
        state.sent += scope.get(SENT, 0)
        state.received += scope.get(RECEIVED, 0)
        self._tally.add(route, method, state.status, seconds, state.received, state.sent)
        if self._log is None:
            return
        parameters: dict[str, Any] = scope.get("path_params", {})
        reference = parameters.get("digest") or parameters.get("reference") or ""
        digest = state.digest or (reference if looks_like_digest(reference) else None)
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
            caller.address,
            caller.agent,
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
