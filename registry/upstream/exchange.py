"""*Exchange*: one request to one server, and what came of it.

Tests: ``tests/upstream/test_client.py``.
"""

from __future__ import annotations

from http.client import RemoteDisconnected
from time import perf_counter
from typing import TYPE_CHECKING, Final

from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    EmptyPoolError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
)

from registry.upstream.answer import BROKEN, Answer, kind_of, reason_of
from registry.upstream.errors import AddressRefused
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import HTTPResponse

    from registry.observability.metrics.upstream_metrics import UpstreamMetrics
    from registry.upstream.pools import Pools
    from registry.upstream.url import Url

_ALWAYS: Final = {"Accept-Encoding": "identity", "User-Agent": "stowage"}
_WORDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (ProxyError, "the proxy does not connect to it"),
    (NameResolutionError, "its name is not known, or was not found in time"),
    (NewConnectionError, "it does not accept a connection"),  # which is a kind of the next one
    (ConnectTimeoutError, "it does not accept a connection in time"),
    (EmptyPoolError, "all connections to it are in use"),
)


class Exchange:
    """The requests of one mirror. Any thread."""

    def __init__(self, mirror: str, pools: Pools, metrics: UpstreamMetrics | None) -> None:
        self._mirror = mirror
        self._pools = pools
        self._metrics = metrics

    def send(self, method: str, url: Url, headers: Mapping[str, str], seconds: float) -> Answer:
        """The answer, whatever its status; ``seconds`` are for all of its head. Redirects are not followed.

        GET and HEAD are sent once more where a connection was closed instead of answering, as one is that was idle.
        Raises UpstreamUnavailable, AddressRefused, AnswerInvalid.
        """
        begin = perf_counter()
        result = "error"
        try:
            try:
                response = self._send(method, url, {**headers, **_ALWAYS}, seconds)
            except AddressRefused:
                result = "refused"
                raise
            except BROKEN as error:
                raise kind_of(error)(f"{url.origin.host}: {_words(error)}") from error
            answer = Answer(response, url, self._count)
            result = str(answer.status)
            return answer
        finally:
            if self._metrics is not None:
                self._metrics.add_request(self._mirror, method, result, perf_counter() - begin)

    def _send(self, method: str, url: Url, headers: Mapping[str, str], seconds: float) -> HTTPResponse:
        with aside:
            try:
                return self._pools.send(method, url, headers, seconds)
            except (ProtocolError, ClosedPoolError) as error:
                if not isinstance(error, ClosedPoolError) and not _was_closed(error):
                    raise
                return self._pools.send(method, url, headers, seconds)

    def _count(self, count: int) -> None:
        if self._metrics is not None:
            self._metrics.add_bytes(self._mirror, count)


def _was_closed(error: ProtocolError) -> bool:
    cause = error.args[1] if len(error.args) > 1 else None
    return isinstance(cause, RemoteDisconnected | ConnectionResetError | BrokenPipeError)


def _words(error: Exception) -> str:
    return next((words for kind, words in _WORDS if isinstance(error, kind)), None) or reason_of(error)
