"""*Budget*: how fast a collection may delete, and when it has to stop."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from registry.storage.middleware.rate_limit import Pace

if TYPE_CHECKING:
    from collections.abc import Callable


class Stopped(Exception):
    """The run ends here: it was told to, or another one has begun. Nothing is left half done."""


class Budget:
    """For one thread."""

    def __init__(
        self,
        rate: float | None,
        *,
        stop: threading.Event | None = None,
        require_mine: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rate`` in objects a second; None for no bound.

        ``require_mine`` is called before each batch, and raises where the run is not this one's any more.
        """
        self._stop = stop or threading.Event()
        self._require_mine = require_mine
        self._pace = None if rate is None else Pace(rate, clock=now, sleep=self._sleep)

    def look(self) -> None:
        """Raises Stopped when the run has to end."""
        if self._stop.is_set():
            raise Stopped("the collection was stopped; run it again")

    def take(self, count: int) -> None:
        """Wait until ``count`` more objects may be deleted. Raises Stopped, and what ``require_mine`` raises."""
        self.look()
        if self._pace is not None:
            self._pace.wait(count)
        self._require_mine()

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self.look()
