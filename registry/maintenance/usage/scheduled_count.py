"""*Scheduled count*: what takes room on storage, once in an interval over all servers, for the metrics of one of them.

A disk is asked for no number of links here, since no metric says what would be freed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import stores
from registry.maintenance.due import is_due
from registry.maintenance.usage.range_usage import ALL, RangeUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.images.registry import Registry
    from registry.maintenance.usage.figures import Figures


class ScheduledCount:
    """For one thread. Several processes at once are harmless; the caller has a lease to save the work."""

    def __init__(self, registry: Registry, interval: float, on_done: Callable[[Figures, int], object]) -> None:
        """``on_done`` gets the figures of all repositories together, and how many these are."""
        self._backends = registry.backends
        self._usage = RangeUsage(registry.backends, counts_freed=False)
        self._interval = interval
        self._on_done = on_done

    @property
    def is_due(self) -> bool:
        """Whether no count was for the interval. Raises DatabaseError."""
        return is_due(self._backends, stores.USAGE_COUNT, self._interval)

    def run(self) -> None:
        """Count, unless another process has done it meanwhile. Raises DatabaseError, StorageError."""
        if not self.is_due:
            return
        began = self._backends.clock()
        figures = self._usage.measure(ALL)
        repositories = sum(1 for _ in self._usage.names(ALL))
        with self._backends.database.transaction() as connection:
            stores.set_reached(connection, stores.USAGE_COUNT, now=began)
        self._on_done(figures, repositories)
