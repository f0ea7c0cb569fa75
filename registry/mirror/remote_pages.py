"""*Remote pages*: a list of an upstream, read page by page within bounds.

Tests: ``tests/mirror/test_remote_tags.py``.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.upstream.errors import AnswerInvalid, UpstreamSilent, UpstreamStatus
from registry.upstream.links import next_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.mirror.patient_upstream import PagesAsked
    from registry.upstream.answer import Answer

_OK: Final = 200


class Bounds(NamedTuple):
    """What a list may be at most."""

    size: int
    """Bytes of all its pages."""
    pages: int
    seconds: float
    """From the first request to the last byte."""


class Page(NamedTuple):
    """A page as it was sent."""

    body: bytes
    host: str
    """The server that sent it."""
    media_type: str
    """As the server calls it, without parameters; perhaps empty."""


class RemotePages:
    """Those of one upstream. Any thread."""

    def __init__(self, upstream: PagesAsked) -> None:
        self._upstream = upstream

    def walk(self, path: str, *, scope: str, accept: str, bounds: Bounds, first: float | None = None) -> Iterator[Page]:
        """The pages; each is asked for when the one before was used.

        The head of the first page may take ``first`` seconds; None leaves it to the timeouts of the settings.
        Raises UpstreamError: UpstreamStatus where the first page is not there, AnswerInvalid where a further one is
        not, where pages follow each other in a circle, and beyond the bounds; UpstreamSilent beyond the time.
        """
        headers, deadline, left = {"Accept": accept}, monotonic() + bounds.seconds, bounds.size
        seconds = bounds.seconds if first is None else min(first, bounds.seconds)
        answer = self._upstream.request("GET", path, scope=scope, headers=headers, seconds=seconds)
        seen = {hash(answer.url)}  # an address may have kilobytes
        while True:
            with answer:
                host = answer.origin.host
                _require(answer, is_first=len(seen) == 1)
                following = next_page(answer)
                body = answer.document(left, _left(deadline, host))
            left -= len(body)
            yield Page(body, host, answer.headers.get("Content-Type", "").partition(";")[0].strip().lower())
            if following is None:
                return
            if hash(following) in seen:
                raise AnswerInvalid(f"{host}: the pages of a list follow each other in a circle")
            if len(seen) == bounds.pages:
                raise AnswerInvalid(f"{host}: a list has more than {bounds.pages} pages")
            seen.add(hash(following))
            seconds = _left(deadline, host)
            answer = self._upstream.request_at("GET", following, scope=scope, headers=headers, seconds=seconds)


def _require(answer: Answer, *, is_first: bool) -> None:
    """Raises UpstreamStatus, AnswerInvalid: a further page that is not there is no absence of the list."""
    if answer.status == _OK:
        return
    message = f"{answer.origin.host} does not give the list: status {answer.status}"
    raise UpstreamStatus(message, answer.status) if is_first else AnswerInvalid(f"{message} at a further page")


def _left(deadline: float, host: str) -> float:
    """Seconds that are left. Raises UpstreamSilent."""
    left = deadline - monotonic()
    if left <= 0:
        raise UpstreamSilent(f"{host}: the pages of a list take too long")
    return left
