"""*Store gate*: how many threads wait for a store over a network, and when that store is silent.

A store that accepts requests and does not answer them would hold every thread of a process for as long as its timeouts
last. So its requests are counted. Where as many as may be are under way and nothing has come from the store for
SILENT_SECONDS, no byte and no answer, another one is refused at once; while the store works it waits for room. A store
that has just taken longer for what it did answer is slow, and silent only after several times as long.
"""

from __future__ import annotations

import contextlib
import threading
from time import monotonic
from typing import TYPE_CHECKING

from registry.storage.errors import NotSent
from registry.waiting import aside, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENT_SECONDS = 2.0
"""A store that has as many requests as it may have, and has not moved a byte for so long, is silent."""

MOST_SILENT_SECONDS = 10.0
"""The same of a store that is slow, at most: those that wait have threads."""
TIMES = 3
"""By how much a request may take longer than those before it."""
REMEMBERED_SECONDS = 60.0
"""Seconds for which the slowest request decides how long another may take."""


class StoreGate:
    """Any thread. One of a driver."""

    def __init__(self, most: int) -> None:
        """``most`` requests at once."""
        self._most = most
        self._changed = threading.Condition()
        self._under_way = 0
        self._moved = 0.0
        """When something came from the store, or a first request began (monotonic)."""
        self._slowest = 0.0
        """Seconds that the slowest request took that was answered lately."""
        self._slowest_at = 0.0
        self._thread = threading.local()

    @contextlib.contextmanager
    def enter(self, key: str) -> Iterator[None]:
        """For one request with all its repetitions; within another of the same thread it is that one.

        The thread steps aside meanwhile: in its pool another one works in its place. Raises NotSent where the
        store is silent.
        """
        if getattr(self._thread, "is_inside", False):
            yield
            return
        self._begin(key)
        self._thread.is_inside = True
        began = monotonic()
        try:
            with aside:
                yield
            self._note(monotonic() - began)
        finally:
            self._thread.is_inside = False
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def move(self) -> None:
        """Something came from the store, or it took something."""
        self._moved = monotonic()

    def _begin(self, key: str) -> None:
        with self._changed:
            if self._under_way >= self._most:
                with waiting:
                    self._wait_for_room(key)
            if not self._under_way:
                self._moved = monotonic()
            self._under_way += 1

    def _wait_for_room(self, key: str) -> None:
        while self._under_way >= self._most:
            left = self._moved + self._most_silent() - monotonic()
            if left <= 0:
                message = f"{self._under_way} requests wait for the store, which says nothing"
                raise NotSent(key, message)
            self._changed.wait(left)

    def _note(self, seconds: float) -> None:
        """A request was answered after so long."""
        with self._changed:
            now = monotonic()
            if seconds >= self._slowest or now - self._slowest_at > REMEMBERED_SECONDS:
                self._slowest, self._slowest_at = seconds, now

    def _most_silent(self) -> float:
        """Seconds without anything after which the store is silent."""
        is_known = monotonic() - self._slowest_at <= REMEMBERED_SECONDS
        return max(SILENT_SECONDS, min(MOST_SILENT_SECONDS, TIMES * self._slowest)) if is_known else SILENT_SECONDS
