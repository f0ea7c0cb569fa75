"""*Due*: whether what one of all servers does once in an interval is to be done.

A time that is later than now says nothing: a clock was ahead when it was written.

Tests: ``tests/maintenance/collection/test_scheduled_collection.py``, ``tests/maintenance/scrub/test_scheduled_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.database import stores

if TYPE_CHECKING:
    from registry.images.backends import Backends

SKEW: Final = 60.0
"""Seconds by which the clocks of two processes may differ."""


def known(moment: float | None, now: float) -> float | None:
    """A moment that was written down; None for none, and for one that a clock wrote which was ahead."""
    return None if moment is None or moment > now + SKEW else moment


def is_due(backends: Backends, milestone: str, interval: float) -> bool:
    """Whether it was not begun for so many seconds, or by a clock that was ahead. Raises DatabaseError."""
    with backends.database.autocommit() as connection:
        last = known(stores.reached_at(connection, milestone).get(), backends.clock())
    return last is None or backends.clock() - last >= interval
