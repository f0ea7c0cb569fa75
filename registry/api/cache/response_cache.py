"""*Response cache*: reads answered from memory while that memory is known to be current (design, section 4).

The routes fill it, with answers that depend on path and query alone. Absence is never remembered, so what only adds to
a repository need not raise its version. An answer's version is read before its rows, or together with them; as long as
the repository has that version, nothing has changed since. For the event loop's thread alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from registry.api.http.conditional import unmodified
from registry.images.repositories import LOOK_SECONDS
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from registry.api.cache.freshness import Freshness
    from registry.images.pulls import Pull
    from registry.images.registry import Registry

OVERHEAD = 2048
"""Bytes that an answer costs beside its body, with the path and query that it is kept under, roughly."""
LONGEST_QUERY = 512
"""Bytes of a query whose answer is kept: any number of them mean the same."""

RawHeaders = list[tuple[bytes, bytes]]


class ResponseHeaders:
    """The headers of an answer, in both forms in which a server takes them."""

    __slots__ = ("_aged", "_given", "headers", "lines")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._given = headers
        self._aged: tuple[int, ResponseHeaders] | None = None
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        """Names in lower case, as ASGI wants them."""
        self.lines = b"".join(name + b": " + value + b"\r\n" for name, value in self.headers)
        """As HTTP/1.1 has them on the wire."""

    def aged(self, seconds: float) -> ResponseHeaders:
        """Those of an answer that is so old (RFC 9111, section 5.1), made anew each second."""
        age, last = int(seconds), self._aged
        if last is None or last[0] != age:
            last = self._aged = age, ResponseHeaders({**self._given, "Age": str(age)})
        return last[1]

    def unmodified(self) -> ResponseHeaders:
        """Those of 304 in place of this answer."""
        return ResponseHeaders(unmodified(self._given))


class Redirect(NamedTuple):
    """Where the store itself gives the bytes of a blob."""

    head: ResponseHeaders
    """The headers of the redirect."""
    until: float
    """When it is told no more (monotonic)."""


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """A successful answer to GET and HEAD of one path."""

    repository: str
    version: int
    """The version of the repository when the rows were read."""
    head: ResponseHeaders
    body: bytes | None
    """None if only HEAD is answered, and GET with ``elsewhere`` (blobs)."""
    route: str
    """The template, for metrics."""
    digest: str | None = None
    """The entity tag, for conditional requests; None if there is none."""
    key: str | None = None
    """Where the bytes are on storage: a HEAD, and any read of a blob, looks there first, where that is cheap (I6)."""
    size: int = 0
    """Bytes of the object at ``key``."""
    leased_until: float | None = None
    """The lease of a blob or manifest, by this machine's ``clocks.boot``; None for what has none."""
    is_of_a_blob: bool = False
    """Whether the rules of redirects are for it."""
    elsewhere: Redirect | None = None
    """The answer to a GET that the rules redirect to the store."""
    pull: Pull | None = None
    """The manifest that is pulled by this answer."""
    until: float = inf
    """When memory gives it no more (monotonic): what an upstream has said holds for a while."""
    asked_at: float | None = None
    """When the upstream said it (monotonic), from which its age counts; None for an answer without an age."""

    def head_now(self) -> ResponseHeaders:
        """The headers, with the age that it has now."""
        return self.head if self.asked_at is None else self.head.aged(time.monotonic() - self.asked_at)

    def sending_away(self) -> ResponseHeaders | None:
        """The headers that send a GET to the store; None where there are none, or none any more."""
        elsewhere = self.elsewhere
        return elsewhere.head if elsewhere is not None and time.monotonic() < elsewhere.until else None


class ResponseCache:
    """Answers by path and query, bounded in bytes."""

    def __init__(self, registry: Registry, freshness: Freshness, max_bytes: int) -> None:
        """Close ``freshness`` at the end."""
        self._driver = registry.backends.driver
        self._capabilities = registry.backends.driver.capabilities
        self._repositories = registry.repositories
        self._policy = registry.backends.policy
        self._boot = registry.backends.database.clocks.boot
        self._freshness = freshness
        self._answers: LRUCache[tuple[str, bytes], CachedResponse] = LRUCache(max_bytes, getsizeof=_size)

    def remember(self, request: Request, answer: CachedResponse) -> None:
        """Keep the answer to a request, unless it is too large."""
        path, query = request.scope["path"], request.scope["query_string"]
        if len(query) > LONGEST_QUERY or _size(answer) > self._answers.maxsize // 4:
            return
        kept = self._answers.get((path, query))
        if kept is not None:
            is_same = (kept.version, kept.key) == (answer.version, answer.key)  # its object may be another by now
            elsewhere = answer.elsewhere or (kept.elsewhere if is_same else None)
            answer = replace(answer, body=kept.body if answer.body is None else answer.body, elsewhere=elsewhere)
        self._answers[path, query] = answer

    def get(self, path: str, query: bytes, method: str) -> CachedResponse | None:
        """What was remembered for this method, current or not; see ``validate``."""
        try:
            answer = self._answers[path, query]
        except KeyError:
            return None
        if answer.until < inf and time.monotonic() >= answer.until:
            return None
        if method == "HEAD" or (method == "GET" and (answer.body is not None or answer.sending_away())):
            return answer
        return None

    def is_lease_due(self, answer: CachedResponse) -> bool:
        """Whether HEAD for a caller that may push is for the core, which renews the lease before it answers (I7)."""
        return answer.leased_until is not None and self._policy.is_lease_due(answer.leased_until - self._boot())

    def validate(self, answer: CachedResponse, method: str, callback: Callable[[bool], object]) -> None:
        """Call ``callback`` with whether an answer is known to be current by looks that began after this call.

        Before this returns or later. The routes have the last word where it is not.
        """
        if self._was_looked_at(answer.repository) and self._holds(answer, method):
            self._freshness.ask(answer.repository, answer.version, callback)
        else:
            callback(False)  # noqa: FBT003 - see Freshness

    def close(self) -> None:
        """Forget everything. Before the event loop ends; may be called again."""
        self._answers.clear()
        self._freshness.close()

    def _holds(self, answer: CachedResponse, method: str) -> bool:
        """Whether the bytes are there, where a stat is cheap (I6)."""
        if answer.key is not None and self._capabilities.stat_is_local and (method == "HEAD" or answer.is_of_a_blob):
            try:
                lost = self._driver.stat(answer.key).size != answer.size
            except StorageError:
                lost = True
            if lost:
                self._forget(answer.key)
                return False
        return True

    def _forget(self, key: str) -> None:
        """Drop what was read from an object that is lost: GET says then what HEAD says, by every name of it (I6)."""
        for asked in [asked for asked, answer in self._answers.items() if answer.key == key]:
            del self._answers[asked]

    def _was_looked_at(self, repository: str) -> bool:
        """Whether the index was compared with storage lately, where other tools may have written it."""
        if not self._capabilities.external_writers:
            return True
        return time.monotonic() - self._repositories.looked_at(repository) < LOOK_SECONDS


def _size(answer: CachedResponse) -> int:
    return OVERHEAD + len(answer.body or b"") + (2 * len(answer.elsewhere.head.lines) if answer.elsewhere else 0)
