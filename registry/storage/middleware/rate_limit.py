"""Rate limit for a driver: at most ``per_second`` requests, so that a migration leaves capacity for clients."""

from __future__ import annotations

import threading
import time
from math import ceil
from typing import TYPE_CHECKING, Final, TypeVar

from registry.storage.middleware.base import DriverDecorator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from registry.storage.driver import ObjectStat, StorageDriver

T = TypeVar("T")

BURST_SECONDS: Final = 0.1
"""Seconds of unused rate that may be used at once: threads do not wake at the moment that they asked for."""
_WITHOUT_REQUEST = frozenset({"reader.read", "writer.resume", "writer.write"})
"""Operations that go on with a request, or gather what the next one sends."""


class Pace:
    """So many requests a second, of all threads together, in the order in which they ask."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = clock()

    def wait(self, requests: int) -> None:
        """Wait until so many more may be made."""
        with self._lock:
            now = self._clock()
            begin = max(self._next, now - BURST_SECONDS)
            self._next = begin + requests * self._interval
        if begin > now:
            self._sleep(begin - now)


class RateLimitedDriver(DriverDecorator):
    """Waits before each request. What a reader reads on belongs to the request that opened it."""

    page = 1000

    def __init__(self, inner: StorageDriver, per_second: float, pace: Pace | None = None) -> None:
        """``per_second``: requests, more than 0; ``pace`` where another driver has a part in it."""
        super().__init__(inner)
        self._pace = pace or Pace(per_second)

    def around(self, operation: str, key: str, call: Callable[[], T]) -> T:  # noqa: ARG002 - all keys are alike
        """See DriverDecorator."""
        if operation not in _WITHOUT_REQUEST:
            self._pace.wait(1)
        return call()

    def copy(self, source: str, target: str, *, size: int, if_etag: str) -> ObjectStat:
        """See StorageDriver. As many requests as the store needs for an object of this size."""
        most, part = self.capabilities.copy_bytes, self.capabilities.copy_part_bytes
        self._pace.wait(2 + ceil(size / part) if 0 < most < size else 1)
        return self.inner.copy(source, target, size=size, if_etag=if_etag)

    def delete(self, keys: Iterable[str]) -> None:
        """See StorageDriver. As many requests as the store needs for so many objects."""
        known = list(keys)
        if known:
            self._pace.wait(ceil(len(known) / self.capabilities.delete_batch))
            self.inner.delete(known)
