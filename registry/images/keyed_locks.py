"""Keyed locks: one lock for each key that is in use, so that one thread at a time does a piece of work."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from registry.oci.errors import Unavailable
from registry.waiting import aside, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator


SECONDS = 15.0
"""How long a thread waits for another one, which may be waiting for a store."""


class KeyedLocks:
    """Locks by name, within this process. Holds nothing for keys that are not in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Be the only thread with this key. Raises Unavailable where another one keeps it for SECONDS."""
        with self._lock:
            lock, users = self._held.get(key, (threading.Lock(), 0))
            self._held[key] = (lock, users + 1)
        try:
            self._acquire(lock)
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._lock:
                _, users = self._held[key]
                if users == 1:
                    del self._held[key]
                else:
                    self._held[key] = (lock, users - 1)

    def _acquire(self, lock: threading.Lock) -> None:
        if lock.acquire(blocking=False):
            return
        with aside, waiting:
            if not lock.acquire(timeout=SECONDS):
                raise Unavailable(headers={"Retry-After": "5"})
