"""*Ledger*: what a collection has found, counted as it goes; nothing in it grows with the store.

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.maintenance.collection.finding import Kept, Removed, Waiting

PROBLEMS = 1000
"""Problems that are kept; further ones are counted."""


class Ledger:
    """For one thread."""

    def __init__(
        self,
        on_removed: Callable[[Removed], object] = lambda _removed: None,
        on_waiting: Callable[[Waiting], object] = lambda _waiting: None,
    ) -> None:
        self._on_removed = on_removed
        self._on_waiting = on_waiting
        self.objects = 0
        """Objects that storage has less; on local disk names of files."""
        self.bytes = 0
        """Bytes that storage has less."""
        self.removed: Counter[str] = Counter()
        """How many of each kind."""
        self.waiting: Counter[str] = Counter()
        """How many of each kind."""
        self.waiting_bytes = 0
        self.next: float | None = None
        """When the first of these may go (seconds since the epoch)."""
        self.kept: Counter[Kept] = Counter()
        """How many things out of use stay, by the reason."""
        self.oldest = 0.0
        """Seconds for which the thing that has been out of use longest has been so; 0 if there is none."""
        self.problems: list[str] = []
        self.more_problems = 0
        """Problems beyond these."""

    def remove(self, removed: Removed) -> None:
        """Something goes, or went."""
        self.removed[str(removed.kind)] += 1
        self.objects += removed.objects
        self.bytes += removed.bytes
        self._on_removed(removed)

    def wait(self, waiting: Waiting) -> None:
        """Something goes later."""
        self.waiting[str(waiting.kind)] += 1
        self.waiting_bytes += waiting.bytes
        self.next = waiting.until if self.next is None else min(self.next, waiting.until)
        self._on_waiting(waiting)

    def keep(self, reason: Kept) -> None:
        """Something out of use stays."""
        self.kept[reason] += 1

    def trouble(self, problem: str) -> None:
        """Something could not be done; what it is about stays."""
        if len(self.problems) < PROBLEMS:
            self.problems.append(problem)
        else:
            self.more_problems += 1
