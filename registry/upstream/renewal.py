"""*Renewal*: a value that ends, such as a token: one thread at a time gets a new one, before the old one has ended."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from registry import interruption
from registry.upstream.errors import TokenUnavailable, UpstreamError
from registry.waiting import aside

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

RENEWED_AT: Final = 0.8
"""Part of its life after which a value is renewed."""
REMEMBERED: Final = 5.0
"""Seconds for which a failure answers further callers: a hundred of them are one request."""
WAIT: Final = 60.0
"""Seconds that a caller waits for the one that gets a value."""
_LONGEST_PAUSE: Final = 3600.0


class Held(NamedTuple, Generic[T]):
    """A value with the time (of the clock of its Renewal) at which it was asked for, must be renewed, and ends."""

    value: T
    begun: float
    renewed_from: float
    ends: float


class Renewal(Generic[T]):
    """Any thread."""

    def __init__(self, load: Callable[[float], tuple[T, float]], clock: Callable[[], float] = monotonic) -> None:
        """``load`` gets a value within so many seconds, and says for how many it is good. It raises UpstreamError."""
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._held: Held[T] | None = None
        self._failure: UpstreamError | None = None
        self._failed_until = float("-inf")

    def get(self, seconds: float = WAIT) -> Held[T]:
        """The value, renewed first if it is old. While another caller renews it, the old one serves as it lasts.

        It takes ``seconds`` at most. Raises UpstreamError, also that of the last attempt if it is not long ago.
        """
        now = self._clock()
        held = self._held
        if held is not None and now < held.renewed_from:
            return held
        lasts = held is not None and now < held.ends
        if lasts:
            taken = self._lock.acquire(blocking=False)
        else:
            with aside:
                taken = interruption.acquire(self._lock, min(seconds, WAIT))
        if not taken:
            if held is not None and lasts:
                return held
            raise TokenUnavailable("a token was waited for too long")
        try:
            return self._renewed(min(seconds, WAIT) - (self._clock() - now))
        finally:
            self._lock.release()

    def reject(self, held: Held[T]) -> None:
        """A server does not accept this value: the next caller gets a new one, unless there is one already."""
        with self._lock:
            if self._held is held:
                self._held = None

    def _renewed(self, seconds: float) -> Held[T]:
        held, now = self._held, self._clock()
        if held is not None and now < held.renewed_from:
            return held  # another thread was faster
        lasting = held if held is not None and now < held.ends else None
        if self._failure is None or now >= self._failed_until:
            try:
                value, life = self._load(max(seconds, 0.0))
            except UpstreamError as error:
                self._failure, self._failed_until = error, self._clock() + _pause(error)
            else:
                self._failure = None
                self._held = Held(value, now, now + RENEWED_AT * life, now + life)
                return self._held
        if lasting is not None:
            return lasting
        raise self._failure.with_traceback(None)


def _pause(error: UpstreamError) -> float:
    seconds = error.seconds if isinstance(error, TokenUnavailable) else None
    return min(max(seconds or 0.0, REMEMBERED), _LONGEST_PAUSE)
