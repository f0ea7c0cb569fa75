"""*Login refusal*: the answer to a login for which there is no room, given before its request has a task or a route.

A flood of logins is refused faster than it is hashed: each one refused by its route would keep the event loop from
other requests for half a millisecond. What is answered is what the route of ``GET /auth/token`` would say.

Tests: ``tests/server/test_login_refusal.py``.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

import orjson

from registry.api.cache.lookup import CachedAnswer, is_for_routes
from registry.api.cache.response_cache import ResponseHeaders
from registry.api.token import ROUTE
from registry.auth.credentials import Basic, credentials_of
from registry.auth.passwords.hashing_pool import no_room
from registry.oci.errors import RegistryError

if TYPE_CHECKING:
    from registry.api.access import Peer
    from registry.api.cache.lookup import RequestIds
    from registry.api.cache.response_cache import RawHeaders
    from registry.api.context import ApiContext
    from registry.observability.metrics.http_metrics import RequestTally
    from registry.observability.request_log import RequestLog

_METHOD: Final = b"GET"
_PATH: Final = ROUTE.encode()


class LoginRefusal:
    """For the event loop's thread alone."""

    def __init__(
        self, context: ApiContext, tally: RequestTally, log: RequestLog | None, request_ids: RequestIds
    ) -> None:
        self._access = context.access
        self._authenticators = None if context.authentication is None else context.authentication.authenticators
        self._tally = tally
        self._log = log
        self._request_ids = request_ids
        error = no_room()
        self._error = error
        self._body = orjson.dumps(error.body())
        self._head = ResponseHeaders(
            {**error.headers, "Content-Length": str(len(self._body)), "Content-Type": "application/json"}
        )

    def find(self, method: bytes, path: bytes, headers: RawHeaders, peer: Peer) -> CachedAnswer | None:
        """The refusal of a login, counted and logged as sent; None where only the routes know what to say.

        ``headers`` are the request's, with names in lower case.
        """
        if path != _PATH or method != _METHOD or self._authenticators is None:
            return None
        began = perf_counter()
        agent = None
        for name, value in headers:
            if name == b"user-agent":
                agent = value.decode("latin-1") if agent is None else agent
            elif is_for_routes(name, value, "GET"):
                return None
        address = self._access.address_of(peer, headers)
        credentials = _basic_of(headers)
        if credentials is None or self._authenticators.has_room(credentials, address):
            return None
        request_id, error = next(self._request_ids), self._error
        seconds = perf_counter() - began
        self._tally.add(ROUTE, "GET", error.status, seconds, 0, len(self._body))
        if self._log is not None:
            self._log.add(
                request_id,
                "GET",
                ROUTE,
                error.status,
                None,
                None,
                0,
                len(self._body),
                seconds,
                address,
                agent,
                error.code,
            )
        return CachedAnswer(error.status, self._head, request_id.encode(), self._body)


def _basic_of(headers: RawHeaders) -> Basic | None:
    """A user with a password; None for what is anything else, or not understood."""
    try:
        credentials = credentials_of(headers)
    except RegistryError:
        return None
    return credentials if isinstance(credentials, Basic) else None
