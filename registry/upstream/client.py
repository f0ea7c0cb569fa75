"""*Client* of one upstream: what a mirror or a remote asks a server of another organisation."""

from __future__ import annotations

import time
from time import monotonic
from typing import TYPE_CHECKING, Final

from registry.upstream.address_guard import AddressGuard
from registry.upstream.authenticator import Authenticator
from registry.upstream.credentials.sources import source_of
from registry.upstream.download import Download
from registry.upstream.errors import UpstreamDenied, UpstreamThrottled, UpstreamUnavailable
from registry.upstream.exchange import Exchange
from registry.upstream.pools import Pools
from registry.upstream.rate_limit import remaining, retry_after
from registry.upstream.redirects import AUTHORIZATION, follow
from registry.upstream.resolver import Resolver
from registry.upstream.tls import TlsContexts
from registry.upstream.tokens import TokenCache
from registry.upstream.url import Url, parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.config.upstream_sections import UpstreamSettings
    from registry.observability.metrics.upstream_metrics import UpstreamMetrics
    from registry.upstream.answer import Answer
    from registry.upstream.authenticator import Permit
    from registry.upstream.download import Goal

_ROUNDS: Final = 3
"""Times that a request is sent: without anything, with a token that is old, with a new one."""
_NO_SECONDS: Final = float("inf")


class Upstream:
    """Any thread. It opens no connection before it is asked for something."""

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        *,
        tokens: TokenCache | None = None,
        metrics: UpstreamMetrics | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """``name`` is that of the mirror. Raises ValueError, OSError for a file of the settings that cannot be used."""
        self.name = name
        self._settings = settings
        self._urls = [parse_url(url) for url in settings.url]
        self._own = frozenset(url.origin for url in self._urls)
        resolver = resolver or Resolver()
        guard = AddressGuard(self._own, settings.token_hosts, settings.allowed_hosts, resolver)
        self._pools = Pools(settings, self._own, guard, resolver, TlsContexts(settings))
        self._exchange = Exchange(name, self._pools, metrics)
        self._metrics = metrics
        self._login = Authenticator(
            name,
            source_of(settings.credentials),
            settings.token_hosts,
            tokens or TokenCache(),
            self._ask_realm,
            metrics,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """The answer to GET or HEAD of a path below the upstream's URL, after redirects.

        ``path`` begins with a slash, and may have a query. ``scope`` is what a token has to be good for
        (``repository:NAME:pull``). ``seconds`` are for everything until the head of the answer, logins included; None
        leaves it to the timeouts of the settings. Where one URL does not answer, the next one is asked.

        Raises UpstreamThrottled, TokenUnavailable, UpstreamUnavailable, UpstreamDenied, AddressRefused, AnswerInvalid;
        every other status is the caller's, and the caller closes the answer.
        """
        deadline = monotonic() + (_NO_SECONDS if seconds is None else seconds)
        for url in self._urls[:-1]:
            try:
                return self._request(method, _below(url, path), scope, headers or {}, deadline)
            except UpstreamThrottled:
                raise
            except UpstreamUnavailable:
                continue
        return self._request(method, _below(self._urls[-1], path), scope, headers or {}, deadline)

    def request_at(
        self,
        method: str,
        url: Url,
        *,
        scope: str = "",
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """As ``request``, of a URL that an answer has named (a next page). Elsewhere it shows no credentials."""
        deadline = monotonic() + (_NO_SECONDS if seconds is None else seconds)
        return self._request(method, url, scope, headers or {}, deadline)

    def download(self, path: str, *, scope: str, goal: Goal) -> Download:
        """The content at a path, read in pieces and resumed where it breaks off; nothing is sent yet."""
        return Download(self, path, scope, goal, self._metrics)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pools.close()

    def _request(self, method: str, url: Url, scope: str, headers: Mapping[str, str], deadline: float) -> Answer:
        began = monotonic()
        is_own = url.origin in self._own
        permit = self._login.permit(url.origin, scope, deadline) if is_own else None
        for _ in range(_ROUNDS):
            answer = self._follow(method, url, _with(headers, permit), deadline)
            self._note(answer)
            if answer.status != 401 or not is_own or answer.origin != url.origin:  # noqa: PLR2004 - unauthorized
                break
            lines = answer.all("WWW-Authenticate")
            answer.drain()
            permit = self._login.renewed(url.origin, scope, lines, permit, began=began, deadline=deadline)
        return _judged(answer)

    def _follow(self, method: str, url: Url, headers: Mapping[str, str], deadline: float) -> Answer:
        seconds = self._settings.read_timeout
        return follow(self._exchange, method, url, headers, seconds=seconds, deadline=deadline)

    def _ask_realm(self, url: Url, headers: Mapping[str, str], seconds: float) -> Answer:
        return self._follow("GET", url, headers, monotonic() + seconds)

    def _note(self, answer: Answer) -> None:
        count = remaining(answer.headers) if answer.origin in self._own else None
        if count is not None and self._metrics is not None:
            self._metrics.set_remaining(self.name, count)


def _below(url: Url, path: str) -> Url:
    return Url(url.origin, url.target.rstrip("/") + path)


def _with(headers: Mapping[str, str], permit: Permit | None) -> Mapping[str, str]:
    return headers if permit is None else {**headers, AUTHORIZATION: permit.header}


def _judged(answer: Answer) -> Answer:
    """An answer whose status is the caller's; every other one is drained and raised."""
    status, host = answer.status, answer.origin.host
    seconds = retry_after(answer.headers, time.time())
    if status == 429 or (status == 503 and seconds is not None):  # noqa: PLR2004 - too many requests, unavailable
        answer.drain()
        raise UpstreamThrottled(f"{host} wants fewer requests: status {status}", seconds)
    if status in (401, 403):
        answer.drain()
        raise UpstreamDenied(f"{host} denies it: status {status}")
    if status == 408 or status >= 500:  # noqa: PLR2004 - request timeout, errors of the server
        answer.drain()
        raise UpstreamUnavailable(f"{host} has a problem: status {status}")
    return answer
