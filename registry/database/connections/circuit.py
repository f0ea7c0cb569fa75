"""A circuit breaker: while the database is known to be silent one caller at a time finds out whether it answers again.

A caller that waits has a thread, and there are few of them. Without this each request would wait as long as the first.

Tests: ``tests/database/test_silence.py``.
"""

from __future__ import annotations

import threading
from time import monotonic

from registry.database.errors import DatabaseUnavailable

PROBE_SECONDS = 1.0
"""While the circuit is open one caller is let through in this time."""


class Circuit:
    """Open while the database is silent. Any thread."""

    def __init__(self) -> None:
        self.is_open = False
        self._lock = threading.Lock()
        self._reason = ""
        self._next_probe = 0.0
        self._closed_at = 0.0

    def enter(self) -> None:
        """Raises DatabaseUnavailable while the circuit is open, for all callers but one in PROBE_SECONDS."""
        if not self.is_open:
            return
        with self._lock:
            now = monotonic()
            if now < self._next_probe:
                raise DatabaseUnavailable(self._reason)
            self._next_probe = now + PROBE_SECONDS

    def open(self, reason: str, *, since: float) -> None:
        """It has not answered what it was asked at ``since`` (monotonic); nothing where it has answered since then."""
        with self._lock:
            if since < self._closed_at:
                return
            self.is_open = True
            self._reason = f"{reason}; it is asked again soon"
            self._next_probe = monotonic() + PROBE_SECONDS

    def close(self) -> None:
        """It has answered."""
        with self._lock:
            self.is_open = False
            self._next_probe = 0.0
            self._closed_at = monotonic()
