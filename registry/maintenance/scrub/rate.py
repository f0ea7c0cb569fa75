"""*Rate*: how fast a scrub reads, so that it leaves the store to clients.

Tests: ``tests/maintenance/scrub/test_order.py``.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from registry.storage.driver import CHUNK_SIZE
from registry.storage.middleware.rate_limit import Pace
from registry.storage.wrapped_reader import WrappedReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.storage.driver import ObjectReader

LEAST_READ: Final = 64 << 10
"""Bytes of the smallest read: a low rate waits between reads of so many."""
READS_PER_SECOND: Final = 8
"""Reads that a second of the rate is cut into, so that waits are short."""


class Interrupted(Exception):
    """The process ends, or another one asks for the turn: what was read whole is noted, the rest is for later."""


class Rate:
    """Bytes and requests a second, of all that one scrub reads. For one thread."""

    def __init__(
        self,
        bytes_per_second: float,
        requests_per_second: float,
        ending: threading.Event | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``ending``: once it is set every wait raises Interrupted."""
        self._ending = ending or threading.Event()
        self.most = int(max(LEAST_READ, min(CHUNK_SIZE, bytes_per_second / READS_PER_SECOND)))
        """Bytes of one read at most."""
        self._bytes = Pace(bytes_per_second, clock=clock, sleep=self._sleep)
        self._requests = Pace(requests_per_second, clock=clock, sleep=self._sleep)
        self.read = 0
        """Bytes that were read so far."""

    def request(self) -> None:
        """Wait until one more request may be made. Raises Interrupted."""
        self.check()
        self._requests.wait(1)

    def count(self, size: int) -> None:
        """Wait for as long as so many bytes that were read take at this rate. Raises Interrupted."""
        self.check()
        self.read += size
        self._bytes.wait(size)

    def check(self) -> None:
        """Raises Interrupted if the scrub is to end."""
        if self._ending.is_set():
            raise Interrupted

    def _sleep(self, seconds: float) -> None:
        if self._ending.wait(seconds):
            raise Interrupted


class RateLimitedReader(WrappedReader):
    """An ObjectReader that reads no faster than a rate."""

    def __init__(self, inner: ObjectReader, rate: Rate) -> None:
        super().__init__(inner)
        self._rate = rate

    def read(self, size: int) -> bytes:
        """See ObjectReader. Raises Interrupted."""
        data = self._inner.read(min(size, self._rate.most))
        self._rate.count(len(data))
        return data
