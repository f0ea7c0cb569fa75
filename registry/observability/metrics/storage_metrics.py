"""Storage metrics: operations of the driver, their errors and their time, and what storage has that is not served.

Tests: ``tests/observability/metrics/test_metrics.py``.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.observability.metrics.instruments import Instruments

_BOUNDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_BUCKETS = len(_BOUNDS) + 1
_SECONDS, _FAILED = _BUCKETS, _BUCKETS + 1
"""Positions in the cell of a tally, behind the counts of the buckets."""


class StorageMetrics:
    """What is counted of storage."""

    def __init__(self, make: Instruments) -> None:
        operation = ["driver", "operation"]
        self.requests = make.counter("storage_requests", "Operations of the storage driver.", operation)
        self.errors = make.counter("storage_errors", "Storage operations that failed.", operation)
        self.duration = make.histogram(
            "storage_request_duration_seconds", "Time of a storage operation.", operation, _BOUNDS
        )
        self.omissions = make.counter(
            "storage_omissions",
            "Things on storage that are not served, each counted when the log names it.",
            ["kind"],
        )


class StorageTally:
    """Counts storage operations as ``http_metrics.RequestTally`` counts requests; any thread."""

    __slots__ = ("_cells", "_lock", "_metrics")

    def __init__(self, metrics: StorageMetrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, str], list[float]] = {}

    def add(self, driver: str, operation: str, kind: str | None, seconds: float, failed: bool) -> None:  # noqa: ARG002, FBT001 - as Observe has it
        """Count one operation. ``failed``: the store did not answer; "not found" is an answer."""
        bucket = bisect_left(_BOUNDS, seconds)
        with self._lock:
            cell = self._cells.get((driver, operation))
            if cell is None:
                cell = self._cells[driver, operation] = [0.0] * (_BUCKETS + 2)
            cell[bucket] += 1
            cell[_SECONDS] += seconds
            if failed:
                cell[_FAILED] += 1

    def flush(self) -> None:
        """Move the counts into the metrics."""
        with self._lock:
            cells, self._cells = self._cells, {}
        for labels, cell in cells.items():
            counts = cell[:_BUCKETS]
            self._metrics.requests.labels(*labels).inc(sum(counts))
            self._metrics.errors.labels(*labels).inc(cell[_FAILED])
            self._metrics.duration.labels(*labels).add(counts, cell[_SECONDS])
