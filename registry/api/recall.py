"""Reads answered from memory: found, counted and logged, for the ASGI application and for the server's own protocol."""

from __future__ import annotations

import itertools
import secrets
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from registry.api.validators import matches

if TYPE_CHECKING:
    from registry.api.locations import Locations
    from registry.api.reads import Answer, Head, RawHeaders, ReadMemory
    from registry.observability.metrics import RequestTally
    from registry.observability.request_log import RequestLog

API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")
"""On every answer: old clients take it for the proof that this is a registry (``docker manifest``, old logins)."""
REQUEST_ID = b"x-request-id"
NOT_RECALLED = "registry.not_recalled"
"""The key of a scope whose request the server has asked about already: it is for the routes."""
_LAST_LINES = API_VERSION[0] + b": " + API_VERSION[1] + b"\r\n" + REQUEST_ID + b": %b\r\n\r\n"
_FOR_ROUTES = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"range"})
"""Headers of a request with a body, for a part, or that is to become something else."""


class Recalled(NamedTuple):
    """A whole answer."""

    status: int
    """200 or 304."""
    head: Head
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


class Recall:
    """Answers a request from memory, or not at all. For the event loop's thread alone."""

    def __init__(
        self,
        memory: ReadMemory,
        locations: Locations,
        tally: RequestTally,
        log: RequestLog | None,
        request_ids: RequestIds,
    ) -> None:
        self._memory = memory
        self._locations = locations
        self._tally = tally
        self._log = log
        self._request_ids = request_ids

    @property
    def at_once(self) -> bool:
        """Whether ``answer`` answers; otherwise ``wait_for_answer`` does."""
        return self._memory.at_once

    @property
    def turn(self) -> int:
        """The number of the event loop's turn; stays the same in turns without a request."""
        return self._memory.turn

    def answer(
        self,
        method: str,
        path: str,
        query: bytes,
        headers: RawHeaders,
        peer: str | None,
        *,
        waited: bool = False,
    ) -> Recalled | None:
        """What the routes would say now, counted and logged as sent; None, and nothing noted, where only they know.

        ``headers`` are the request's, with names in lower case. ``peer`` is the address of the connection's other end.
        ``waited``: the request was there when this turn of the event loop began (see TurnCurrency).
        """
        began = perf_counter()
        answer = self._memory.find(path, query, method, waited=waited)
        return None if answer is None else self._say(answer, began, method, path, headers, peer)

    async def wait_for_answer(
        self, method: str, path: str, query: bytes, headers: RawHeaders, peer: str | None
    ) -> Recalled | None:
        """As ``answer``, where the database has to be waited for."""
        began = perf_counter()
        answer = await self._memory.wait_for(path, query, method)
        return None if answer is None else self._say(answer, began, method, path, headers, peer)

    def _say(
        self, answer: Answer, began: float, method: str, path: str, headers: RawHeaders, peer: str | None
    ) -> Recalled | None:
        agent = condition = None
        for name, value in headers:
            if name == b"user-agent":
                agent = value.decode("latin-1")
            elif name == b"if-none-match":
                condition = value.decode("latin-1") if condition is None else f"{condition}, {value.decode('latin-1')}"
            elif name in _FOR_ROUTES and _is_for_routes(name, value, method):
                return None
        status, head, body = 200, answer.head, (answer.body or b"") if method == "GET" else b""
        if condition is not None and answer.digest is not None and matches(condition, answer.digest):
            status, head, body = 304, head.unmodified(), b""
        request_id = next(self._request_ids)
        seconds = perf_counter() - began
        self._tally.add(answer.route, method, status, seconds, 0, len(body))
        if self._log is not None:
            self._log.add(
                request_id,
                method,
                path,
                status,
                answer.repository,
                answer.digest,
                0,
                len(body),
                seconds,
                self._locations.address(peer, headers),
                agent,
                None,
            )
        return Recalled(status, head, request_id.encode(), body)


def _is_for_routes(name: bytes, value: bytes, method: str) -> bool:
    """Whether one of ``_FOR_ROUTES`` is what it seems: some clients announce a body of no bytes with every request."""
    if name == b"range":
        return method == "GET"
    return name != b"content-length" or value != b"0"
