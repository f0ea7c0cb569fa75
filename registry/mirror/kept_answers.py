"""*Kept answers*: lists of an upstream that a process keeps for a while, asked for once by all threads that want them.

They are kept in memory, by each process for itself: a list may have megabytes, which every replica would write and read
as rows to save one request in ``ttl``, and upstreams do not count requests for lists as pulls.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

import structlog
from cachetools import LRUCache

from registry.mirror.freshness import backoff
from registry.mirror.shared_calls import SharedCalls
from registry.oci.errors import NameUnknown, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

log = structlog.get_logger(__name__)

SIZE: Final = 16 << 20
"""Bytes of the lists that are kept of one mirror."""
_ENTRY: Final = 500
"""Bytes of an entry without its value, roughly."""


class KeptAnswer(NamedTuple, Generic[T]):
    """An answer of an upstream."""

    value: T
    age: float
    """Seconds since it was asked for."""
    fresh_for: float
    """Seconds for which it counts without another request; 0 where it is stale."""
    is_stale: bool
    """The upstream could not be asked whether it is still that."""


class _Entry(NamedTuple, Generic[T]):
    answer: tuple[T, float] | None
    """The last one, and the moment when its request began."""
    error: RegistryError | None = None
    """Why the request after it failed."""
    fails: int = 0
    next_at: float = 0.0
    """When the upstream is asked again after a failure."""


class KeptAnswers(Generic[T]):
    """Those of one kind and mirror. Any thread."""

    def __init__(
        self,
        clock: Callable[[], float],
        size_of: Callable[[T], int],
        *,
        ttl: float,
        max_stale: float | None = None,
        size: int = SIZE,
    ) -> None:
        """``clock`` is one of seconds that only goes forward; ``size`` are bytes, as ``size_of`` counts them."""
        self._clock = clock
        self._ttl = ttl
        self._max_stale = max_stale
        self._lock = threading.Lock()
        self._size = size

        def weight(entry: _Entry[T]) -> int:
            return _ENTRY + (size_of(entry.answer[0]) if entry.answer is not None else 0)

        self._entries: LRUCache[str, _Entry[T]] = LRUCache(size, weight)
        self._shared: SharedCalls[KeptAnswer[T]] = SharedCalls()

    def find(self, key: str, ask: Callable[[bool], T]) -> KeptAnswer[T]:
        """The answer that is kept, or the one that ``ask`` gets; it hears whether an older one could be served.

        ``key`` is shown in the log.

        After a failure the older answer is served, and the next request follows after a while, twice as long each time.
        Raises the RegistryError of ``ask`` where there is no older answer; NameUnknown ends that, and is not kept.
        """
        return self.at_once(key) or self._shared.run(key, lambda: self.at_once(key) or self._ask(key, ask))

    def at_once(self, key: str) -> KeptAnswer[T] | None:
        """As ``find``, without a request; None if the upstream is to be asked.

        Raises the error of the last request while it is too early to ask again.
        """
        with self._lock:
            entry = self._entries.get(key)
        now = self._clock()
        if entry is None:
            return None
        if entry.error is not None:
            return self._stale(entry.answer, entry.error, now) if now < entry.next_at else None
        age = now - entry.answer[1] if entry.answer is not None else self._ttl
        if entry.answer is None or age >= self._ttl:
            return None
        return KeptAnswer(entry.answer[0], age, self._ttl - age, is_stale=False)

    def _ask(self, key: str, ask: Callable[[bool], T]) -> KeptAnswer[T]:
        with self._lock:
            before: _Entry[T] = self._entries.get(key) or _Entry(None)
        began = self._clock()
        try:
            value = ask(before.answer is not None)
        except NameUnknown:
            with self._lock:
                self._entries.pop(key, None)
            raise
        except RegistryError as error:
            now, seconds = self._clock(), backoff(before.fails)
            log.warning("an upstream gave no list", what=key, again_after=seconds, reason=str(error))
            self._keep(key, _Entry(before.answer, error, before.fails + 1, now + seconds))
            return self._stale(before.answer, error, now)
        self._keep(key, _Entry((value, began)))
        age = max(self._clock() - began, 0.0)
        return KeptAnswer(value, age, max(self._ttl - age, 0.0), is_stale=False)

    def _keep(self, key: str, entry: _Entry[T]) -> None:
        with self._lock:
            try:
                self._entries[key] = entry
            except ValueError:  # larger than all that is kept
                self._entries.pop(key, None)

    def _stale(self, answer: tuple[T, float] | None, error: RegistryError, now: float) -> KeptAnswer[T]:
        age = now - answer[1] if answer is not None else 0.0
        if answer is None or (self._max_stale is not None and age > self._max_stale):
            raise error.with_traceback(None)  # which is raised many times, and would grow by each
        return KeptAnswer(answer[0], age, 0.0, is_stale=True)
