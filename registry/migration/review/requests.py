"""Requests to a store by the kinds that are billed: those that were made, and those that a phase will make.

Tests: ``tests/migration/review/test_estimate.py``.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.storage.middleware.metrics import Kind


@dataclass(slots=True)
class Requests:
    """How many of each kind."""

    list: int = 0
    head: int = 0
    get: int = 0
    put: int = 0
    copy: int = 0
    delete: int = 0

    @property
    def total(self) -> int:
        """The number of all kinds together."""
        return sum(asdict(self).values())

    def __add__(self, other: Requests) -> Requests:
        """Both together."""
        return Requests(**{kind: number + getattr(other, kind) for kind, number in asdict(self).items()})


class Tally:
    """Counts the requests of this process as they are made. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def observe(self, driver: str, operation: str, kind: Kind | None, seconds: float, failed: bool) -> None:  # noqa: ARG002, FBT001 - see Observe
        """Note one request, also one that failed: it is billed. See registry.storage.middleware.metrics.Observe."""
        if kind is not None:
            with self._lock:
                self._counts[kind] = self._counts.get(kind, 0) + 1

    @property
    def requests(self) -> Requests:
        """What was counted."""
        with self._lock:
            return Requests(**self._counts)
