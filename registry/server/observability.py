"""What one process shows of itself: its metrics, its log of requests and its audit log.

Tests: ``tests/observability/test_metrics.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.maintenance.collection.finding import Kept
from registry.maintenance.scrub.findings import BYTES, ROUNDS
from registry.observability.metrics import Metrics, RequestTally, StorageTally

if TYPE_CHECKING:
    from registry.maintenance.collection.ledger import Ledger
    from registry.maintenance.retention.report import Summary
    from registry.maintenance.usage.figures import Figures
    from registry.observability.audit import AuditLog
    from registry.observability.outlet import Outlet
    from registry.observability.request_log import RequestLog


class ProcessMetrics:
    """One per process."""

    def __init__(
        self,
        metrics: Metrics | None,
        request_log: RequestLog | None,
        outlet: Outlet | None = None,
        audit_log: AuditLog | None = None,
    ) -> None:
        """``outlet``, where there is one: its losses are counted."""
        self.metrics = metrics or Metrics()
        self.tally = RequestTally(self.metrics)
        self.storage_tally = StorageTally(self.metrics)
        self.request_log = request_log
        self.uploads_due = 0.0
        """When upload sessions may be counted again, by the monotonic clock."""
        self.audit_log = audit_log
        self._outlet = outlet
        self._dropped = 0
        self._audit_dropped = 0

    def flush(self) -> None:
        """Write what is kept back."""
        self.flush_metrics()
        if self.request_log is not None:
            self.request_log.flush()

    def count_omission(self, kind: str) -> None:
        """Count a thing on storage that is not served, without its name."""
        self.metrics.storage_omissions.labels(kind).inc()

    def count_retention(self, summary: Summary, applies: bool) -> None:  # noqa: FBT001 - see ScheduledRun
        """Count a run of retention, without names."""
        metrics = self.metrics
        metrics.retention_runs.labels("problems" if summary.problems else "done").inc()
        metrics.retention_last.set_to_current_time()
        metrics.retention_kept.set(summary.kept)
        metrics.retention_excess.set(0 if applies else summary.removed)
        metrics.retention_left_alone.set(summary.left_alone)
        if applies:
            metrics.retention_removed.inc(summary.removed)

    def count_collection(self, ledger: Ledger | None) -> None:
        """Count a collection, without names; None is one that was refused."""
        metrics = self.metrics
        if ledger is None:
            metrics.collection_runs.labels("refused").inc()
            return
        metrics.collection_runs.labels("problems" if ledger.problems else "done").inc()
        metrics.collection_freed.inc(ledger.bytes)
        metrics.collection_objects.inc(ledger.objects)
        for kind, count in ledger.removed.items():
            metrics.collection_removed.labels(kind).inc(count)
        for reason in Kept:
            metrics.collection_kept.labels(reason.name.lower()).set(ledger.kept[reason])
        metrics.collection_waiting.set(sum(ledger.waiting.values()))
        metrics.collection_waiting_bytes.set(ledger.waiting_bytes)
        metrics.collection_oldest.set(ledger.oldest)
        metrics.collection_last.set_to_current_time()

    def count_usage(self, usage: Figures, repositories: int) -> None:
        """Note what takes room on storage, without names."""
        metrics = self.metrics
        metrics.usage_repositories.set(repositories)
        metrics.usage_logical.set(usage.logical)
        metrics.usage_stored.set(usage.stored)
        for kind in ("unreferenced", "doomed", "trash"):
            metrics.usage_waiting.labels(kind).set(getattr(usage, kind))
        metrics.usage_last.set_to_current_time()

    def count_scrub(self, what: str, count: int) -> None:
        """Count what a scrub has read or found, by the words of ``registry.maintenance.scrub.findings``."""
        if what == BYTES:
            self.metrics.scrub_bytes.inc(count)
        elif what == ROUNDS:
            self.metrics.scrub_last.set_to_current_time()
        else:
            self.metrics.scrub_objects.labels(what).inc(count)

    def flush_metrics(self) -> None:
        """Move what was counted into the metrics: once a second, and before a scrape."""
        self.tally.flush()
        self.storage_tally.flush()
        if self._outlet is not None:
            dropped = self._outlet.dropped
            self.metrics.log_lines_dropped.inc(dropped - self._dropped)
            self._dropped = dropped
        if self.audit_log is not None:
            dropped = self.audit_log.dropped
            self.metrics.audit_lines_dropped.inc(dropped - self._audit_dropped)
            self._audit_dropped = dropped
