"""Deadlines of requests that must not begin late.

Tests: ``tests/storage/test_driver_contract_deletion.py``.
"""

from __future__ import annotations

from registry.clocks import boot_seconds
from registry.storage.errors import NotSent


def require_time(key: str, deadline: float) -> float:
    """Seconds until ``deadline`` (``clocks.boot_seconds``). Raises NotSent when it has passed."""
    left = deadline - boot_seconds()
    if left <= 0:
        raise NotSent(key, f"it was to begin {-left:.3f} s ago")
    return left
