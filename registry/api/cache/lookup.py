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

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.api.access import Access, Caller
    from registry.api.cache.response_cache import CachedResponse, RawHeaders, ResponseCache, ResponseHeaders
    from registry.api.http.redirects import Redirects
    from registry.observability.metrics import RequestTally
    from registry.observability.request_log import RequestLog

API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")
"""On every answer: old clients take it for the proof that this is a registry (``docker manifest``, old logins)."""
REQUEST_ID = b"x-request-id"
FOR_ROUTES = "registry.for_routes"
"""The key of a scope whose request the server has looked up already: the cache has no answer to it."""
_LAST_LINES = API_VERSION[0] + b": " + API_VERSION[1] + b"\r\n" + REQUEST_ID + b": %b\r\n\r\n"
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
    """200, 304 or 307."""
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
        self,
        cache: ResponseCache,
        access: Access,
        redirects: Redirects,
        tally: RequestTally,
        log: RequestLog | None,
        request_ids: RequestIds,
    ) -> None:
        self._cache = cache
        self._access = access
        self._redirects = redirects
        self._tally = tally
        self._log = log
        self._request_ids = request_ids

    def find(self, method: str, path: str, query: bytes, headers: RawHeaders, peer: str | None) -> CacheHit | None:
        """What is kept for a request, current or not; None where only the routes know what to say.

        ``headers`` are the request's, with names in lower case. ``peer`` is the address of the connection's other end.
        """
        answer = self._cache.get(path, query, method)
        if answer is None:
            return None
        agent = condition = None
        for name, value in headers:
            if name == b"user-agent":
                agent = value.decode("latin-1") if agent is None else agent  # of several the first, as the routes say
            elif name == b"if-none-match":
                condition = value.decode("latin-1") if condition is None else f"{condition}, {value.decode('latin-1')}"
            elif name in _FOR_ROUTES and _is_for_routes(name, value, method):
                return None
        caller = self._access.identify(peer, headers, agent)
        if not caller.is_verified or self._access.decide(caller, Action.PULL, answer.repository) is not None:
            return None
        elsewhere = None
        if method == "GET" and answer.is_of_a_blob and self._redirects.wanted(answer.repository, caller):
            elsewhere = answer.sending_away()
            if elsewhere is None:
                return None
        elif method == "GET" and answer.body is None:
            return None
        return CacheHit(answer, method, path, caller, condition, elsewhere, perf_counter())

    def validate(self, hit: CacheHit, callback: Callable[[bool], object]) -> None:
        """Call ``callback`` with whether it is what the routes would say now: before this returns or later."""
        self._cache.validate(hit.answer, hit.method, callback)

    def say(self, hit: CacheHit) -> CachedAnswer:
        """The answer, counted and logged as sent."""
        answer, method = hit.answer, hit.method
        status, head, body = 200, answer.head, (answer.body or b"") if method == "GET" else b""
        if hit.elsewhere is not None:
            status, head, body = 307, hit.elsewhere, b""
        elif hit.condition is not None and answer.digest is not None and matches(hit.condition, answer.digest):
            status, head, body = 304, head.unmodified(), b""
        request_id = next(self._request_ids)
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
        self, method: str, path: str, query: bytes, headers: RawHeaders, peer: str | None
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


def _is_for_routes(name: bytes, value: bytes, method: str) -> bool:
    """Whether one of ``_FOR_ROUTES`` is what it seems: some clients announce a body of no bytes with every request."""
    if name == b"range":
        return method == "GET"
    return name != b"content-length" or value != b"0"
