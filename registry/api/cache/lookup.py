"""*Cache lookup*: reads answered from memory, for the ASGI application and for the server's own protocol.

Tests: ``tests/server/test_recall.py``.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from registry.api.access import Action
from registry.api.http.conditional import matches
from registry.api.http.exchange import API_VERSION, REQUEST_ID
from registry.auth.credentials import AUTHORIZATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.api.access import Caller, Peer
    from registry.api.cache.response_cache import CachedResponse, RawHeaders, ResponseHeaders
    from registry.api.context import ApiContext
    from registry.observability.metrics.http_metrics import RequestTally
    from registry.observability.request_log import RequestLog

FOR_ROUTES = "registry.for_routes"
"""The key of a scope whose request the server has looked up already: the cache has no answer to it."""
_LAST_LINES = API_VERSION[0] + b": " + API_VERSION[1] + b"\r\n" + REQUEST_ID + b": %b\r\n\r\n"
TEMPORARY_REDIRECT = 307
_FOR_ROUTES = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"range"})
"""Headers of a request with a body, for a part, or that is to become something else."""


class CacheHit(NamedTuple):
    """A kept answer to a request, and what is noted once it was given."""

    answer: CachedResponse
    method: str
    path: str
    caller: Caller
    condition: str | None
    """All of If-None-Match."""
    elsewhere: ResponseHeaders | None
    """In place of the bytes: the client is sent to the store."""
    began: float
    """When the request's head was there (``perf_counter``)."""


class CachedAnswer(NamedTuple):
    """A whole answer."""

    status: int
    """200, 304 or 307; 503 for a login that was refused."""
    head: ResponseHeaders
    request_id: bytes
    body: bytes

    def headers(self) -> RawHeaders:
        """All but what the server adds."""
        return [*self.head.headers, API_VERSION, (REQUEST_ID, self.request_id)]

    def lines(self) -> bytes:
        """The same as lines of HTTP/1.1, with the empty one that ends them."""
        return self.head.lines + _LAST_LINES % self.request_id


class RequestIds:
    """Numbers the requests of a process. For the event loop's thread alone."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count(1)

    def __next__(self) -> str:
        """Unique among all processes, as far as chance goes."""
        return f"{self._prefix}-{next(self._numbers):x}"


class CacheLookup:
    """Answers a request from memory, or not at all. For the event loop's thread alone."""

    def __init__(
        self, context: ApiContext, tally: RequestTally, log: RequestLog | None, request_ids: RequestIds
    ) -> None:
        self._cache = context.cache
        self._access = context.access
        self._redirects = context.redirects
        self._audit = context.audit
        self._pulls = context.registry.pulls
        self._tally = tally
        self._log = log
        self._request_ids = request_ids
        self._entrances = None if context.mirrors is None else context.mirrors.entrances

    def find(  # noqa: C901 - asked for each read: what one pass over its headers finds takes no calls
        self, method: str, path: str, query: bytes, headers: RawHeaders, peer: Peer
    ) -> CacheHit | None:
        """What is kept for a request, current or not; None where only the routes know what to say.

        ``headers`` are the request's, with names in lower case.
        """
        if self._entrances is not None:
            path, query = self._entrances.key(method, path, query, headers)
        answer = self._cache.get(path, query, method)
        if answer is None:
            return None
        agent = condition = authorization = None
        for name, value in headers:
            if name == b"user-agent":
                agent = value.decode("latin-1") if agent is None else agent  # of several the first, as the routes say
            elif name == b"if-none-match":
                condition = value.decode("latin-1") if condition is None else f"{condition}, {value.decode('latin-1')}"
            elif name == AUTHORIZATION:
                authorization = value if authorization is None else b""  # of several none counts
            elif name in _FOR_ROUTES and is_for_routes(name, value, method):
                return None
        caller = self._access.identify_reader(peer, headers, authorization or b"", agent, answer.repository)
        if caller is None or (method == "HEAD" and self._needs_lease(caller, answer)):
            return None
        elsewhere = None
        if method == "GET" and answer.is_of_a_blob and self._redirects.wanted(answer.repository, caller):
            elsewhere = answer.sending_away()
            if elsewhere is None:
                return None
        elif method == "GET" and answer.body is None:
            return None
        return CacheHit(answer, method, path, caller, condition, elsewhere, perf_counter())

    def _needs_lease(self, caller: Caller, answer: CachedResponse) -> bool:
        """Whether a lease is to be renewed before this caller is told that it is here (I7)."""
        return self._cache.is_lease_due(answer) and self._access.may(caller, Action.PUSH, answer.repository)

    def validate(self, hit: CacheHit, callback: Callable[[bool], object]) -> None:
        """Call ``callback`` with whether it is what the routes would say now: before this returns or later."""
        self._cache.validate(hit.answer, hit.method, callback)

    def say(self, hit: CacheHit) -> CachedAnswer:
        """The answer, counted and logged as sent."""
        answer, method = hit.answer, hit.method
        status, head, body = 200, answer.head_now(), (answer.body or b"") if method == "GET" else b""
        if hit.elsewhere is not None:
            status, head, body = TEMPORARY_REDIRECT, hit.elsewhere, b""
        elif hit.condition is not None and answer.digest is not None and matches(hit.condition, answer.digest):
            status, head, body = 304, head.unmodified(), b""
        pull = answer.pull
        if pull is not None and pull.due <= hit.began:
            self._pulls.note(pull)
        request_id = next(self._request_ids)
        if status == TEMPORARY_REDIRECT:
            self._audit.send_away(hit.caller, answer.repository, answer.digest, status, request_id)
        seconds = perf_counter() - hit.began
        self._tally.add(answer.route, method, status, seconds, 0, len(body))
        if self._log is not None:
            self._log.add(
                request_id,
                method,
                hit.path,
                status,
                answer.repository,
                answer.digest,
                0,
                len(body),
                seconds,
                hit.caller.address,
                hit.caller.agent,
                None,
            )
        return CachedAnswer(status, head, request_id.encode(), body)

    async def answer(
        self, method: str, path: str, query: bytes, headers: RawHeaders, peer: Peer
    ) -> CachedAnswer | None:
        """Do all of it in a task; None, and nothing noted, where only the routes know what to say."""
        hit = self.find(method, path, query, headers, peer)
        if hit is None:
            return None
        validated: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def callback(is_current: bool) -> None:  # noqa: FBT001 - see ``validate``
            if not validated.done():
                validated.set_result(is_current)

        self.validate(hit, callback)
        return self.say(hit) if await validated else None


def is_for_routes(name: bytes, value: bytes, method: str) -> bool:
    """Whether a header makes a request one with a body, for a part, or that is to become something else.

    Some clients announce a body of no bytes with every request.
    """
    if name == b"content-length":
        return value != b"0"
    return name in _FOR_ROUTES and (name != b"range" or method == "GET")
