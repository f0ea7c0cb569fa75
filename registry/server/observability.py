"""What one process shows of itself: its metrics and its log of requests.

Tests: ``tests/observability/test_metrics.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.observability.metrics import Metrics, RequestTally, StorageTally

if TYPE_CHECKING:
    from registry.observability.outlet import Outlet
    from registry.observability.request_log import RequestLog


class ProcessMetrics:
    """One per process."""

    def __init__(self, metrics: Metrics | None, request_log: RequestLog | None, outlet: Outlet | None = None) -> None:
        """``outlet``, where there is one: its losses are counted."""
        self.metrics = metrics or Metrics()
        self.tally = RequestTally(self.metrics)
        self.storage_tally = StorageTally(self.metrics)
        self.request_log = request_log
        self.uploads_due = 0.0
        """When upload sessions may be counted again, by the monotonic clock."""
        self._outlet = outlet
        self._dropped = 0

    def flush(self) -> None:
        """Write what is kept back."""
        self.flush_metrics()
        if self.request_log is not None:
            self.request_log.flush()

    def count_omission(self, kind: str) -> None:
        """Count a thing on storage that is not served, without its name."""
        self.metrics.storage_omissions.labels(kind).inc()

    def flush_metrics(self) -> None:
        """Move what was counted into the metrics: once a second, and before a scrape."""
        self.tally.flush()
        self.storage_tally.flush()
        if self._outlet is not None:
            dropped = self._outlet.dropped
            self.metrics.log_lines_dropped.inc(dropped - self._dropped)
            self._dropped = dropped
