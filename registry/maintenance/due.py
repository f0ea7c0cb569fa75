"""*Due*: whether what one of all servers does once in an interval is to be done.

Tests: ``tests/maintenance/collection/test_scheduled_collection.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import stores

if TYPE_CHECKING:
    from registry.images.backends import Backends


def is_due(backends: Backends, milestone: str, interval: float) -> bool:
    """Whether it was not begun for so many seconds, or by a clock that was ahead. Raises DatabaseError."""
    with backends.database.autocommit() as connection:
        last = stores.reached_at(connection, milestone).get()
    return last is None or not 0 <= backends.clock() - last < interval
