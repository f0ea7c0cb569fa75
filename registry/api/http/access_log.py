"""The outermost layer: reads from memory first; for every request a line in the log, its metrics and two headers.

Tests: ``tests/server/test_log.py``.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from registry.api import errors
from registry.api.access import peer_of
from registry.api.cache.lookup import FOR_ROUTES, CachedAnswer, CacheLookup, RequestIds
from registry.api.http.blob_response import SENT
from registry.api.http.direct_upload import RECEIVED
from registry.api.http.exchange import API_VERSION, REQUEST_ID, Exchange
from registry.api.http.urls import ASKED_PATH
from registry.api.login_refusal import LoginRefusal
from registry.oci.digest import looks_like_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from registry.api.access import Caller, Peer
    from registry.api.cache.response_cache import RawHeaders
    from registry.api.context import ApiContext
    from registry.observability.metrics.http_metrics import RequestTally
    from registry.observability.request_log import RequestLog
    from registry.oci.errors import RegistryError

UNMATCHED = "unmatched"
"""The route, for metrics, of a path that is none."""
_NONE: Final[dict[str, Any]] = {}


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
        self.lookup = CacheLookup(context, tally, log, self._request_ids)
        self.login_refusal = LoginRefusal(context, tally, log, self._request_ids)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request from memory or through the routes; what is not HTTP is passed on untouched."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if FOR_ROUTES not in scope and (cached := await self._look_up(scope)) is not None:
            await send({"type": "http.response.start", "status": cached.status, "headers": cached.headers()})
            await send({"type": "http.response.body", "body": cached.body})
            return
        refusal = self._enter(scope)
        exchange = Exchange(scope, receive, send, next(self._request_ids))
        caller = self._context.access.admit(scope)
        self._context.request_began()
        try:
            if refusal is None:
                await self._routes(scope, exchange.receive, exchange.send)
            else:
                await exchange.answer(errors.render(refusal, scope))
        finally:
            self._context.request_ended()
            self._context.audit.end(scope, exchange.status, exchange.request_id)
            self._note(scope, caller, exchange)

    def peer(self, address: str | None, certificate: bytes | None) -> Peer:
        """See ``Access``: asked once for each connection."""
        return self._context.access.peer(address, certificate)

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

    def _enter(self, scope: Scope) -> RegistryError | None:
        """Have the scope say what a request is that came to a mirror. Returns what refuses it; None if nothing does."""
        if self._context.mirrors is None:
            return None
        entrances = self._context.mirrors.entrances
        entered = entrances.enter(scope["method"], scope["path"], scope["query_string"], scope["headers"])
        if entered is None:
            return None
        scope[ASKED_PATH] = scope["path"]
        scope["path"], scope["query_string"] = entered.path, entered.query
        return entered.refusal

    async def _look_up(self, scope: Scope) -> CachedAnswer | None:
        return await self.lookup.answer(
            scope["method"], scope["path"], scope["query_string"], scope["headers"], peer_of(scope)
        )

    def _note(self, scope: Scope, caller: Caller, exchange: Exchange) -> None:
        seconds = perf_counter() - exchange.began
        method, status = scope["method"], exchange.status
        route = scope.get("route")
        received, sent = exchange.received + scope.get(RECEIVED, 0), exchange.sent + scope.get(SENT, 0)
        self._tally.add(UNMATCHED if route is None else route.path, method, status, seconds, received, sent)
        if self._log is None:
            return
        parameters: dict[str, Any] = scope.get("path_params", _NONE)
        self._log.add(
            exchange.request_id,
            method,
            scope["path"],
            status,
            parameters.get("name"),
            exchange.digest or _digest_in(parameters),
            received,
            sent,
            seconds,
            caller.address,
            caller.agent,
            scope.get("registry.error_code"),
        )


def _digest_in(parameters: Mapping[str, Any]) -> str | None:
    """The digest in a path; None if there is none."""
    reference = parameters.get("digest") or parameters.get("reference") or ""
    return reference if looks_like_digest(reference) else None
