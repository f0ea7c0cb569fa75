"""*Redirects*, followed by hand: each hop passes the address guard, and shows no more than it may see.

Tests: ``tests/upstream/test_client.py``.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from registry.upstream.errors import AnswerInvalid, UpstreamUnavailable
from registry.upstream.url import join_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.upstream.answer import Answer
    from registry.upstream.exchange import Exchange
    from registry.upstream.url import Url

MOST: Final = 5
_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
AUTHORIZATION: Final = "Authorization"


def follow(
    exchange: Exchange, method: str, url: Url, headers: Mapping[str, str], *, seconds: float, deadline: float
) -> Answer:
    """The answer to GET or HEAD after at most MOST redirects.

    ``seconds`` are for the head of each answer, ``deadline`` (``monotonic``) is for that of the last one.
    Authorization goes to the origin of ``url`` alone. Raises AnswerInvalid, UpstreamUnavailable, AddressRefused.
    """
    first = url.origin
    foreign = {name: value for name, value in headers.items() if name != AUTHORIZATION}
    for _ in range(MOST + 1):
        left = deadline - monotonic()
        if left <= 0:
            raise UpstreamUnavailable(f"{url.origin.host}: it does not answer in time")
        answer = exchange.send(method, url, headers if url.origin == first else foreign, min(seconds, left))
        if answer.status not in _STATUSES:
            return answer
        answer.drain()
        url = _next(answer, url)
    raise AnswerInvalid(f"{first.host}: more than {MOST} redirects")


def _next(answer: Answer, url: Url) -> Url:
    host = url.origin.host
    location = answer.headers.get("Location")
    if not location:
        raise AnswerInvalid(f"{host}: a redirect without a target")
    try:
        target = join_url(url, location)
    except ValueError as error:
        raise AnswerInvalid(f"{host}: a redirect that cannot be followed: {error}") from None
    if url.origin.scheme == "https" and target.origin.scheme != "https":
        raise AnswerInvalid(f"{host}: a redirect from https to http")
    return target
