"""What one process shows of itself: its metrics, its log of requests and its audit log.

Tests: ``tests/observability/metrics/test_metrics.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.maintenance.collection.finding import Kept
from registry.maintenance.scrub.findings import BYTES, ROUNDS
from registry.observability.metrics.http_metrics import RequestTally
from registry.observability.metrics.metrics import Metrics
from registry.observability.metrics.storage_metrics import StorageTally

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
        self.tally = RequestTally(self.metrics.http)
        self.storage_tally = StorageTally(self.metrics.storage)
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
        self.metrics.storage.omissions.labels(kind).inc()

    def count_retention(self, summary: Summary, applies: bool) -> None:  # noqa: FBT001 - see ScheduledRun
        """Count a run of retention, without names."""
        metrics = self.metrics
        metrics.retention.runs.labels("problems" if summary.problems else "done").inc()
        metrics.retention.last.set_to_current_time()
        metrics.retention.kept.set(summary.kept)
        metrics.retention.excess.set(0 if applies else summary.removed)
        metrics.retention.left_alone.set(summary.left_alone)
        if applies:
            metrics.retention.removed.inc(summary.removed)

    def count_collection(self, ledger: Ledger | None) -> None:
        """Count a collection, without names; None is one that was refused."""
        metrics = self.metrics
        if ledger is None:
            metrics.collection.runs.labels("refused").inc()
            return
        metrics.collection.runs.labels("problems" if ledger.problems else "done").inc()
        metrics.collection.freed.inc(ledger.bytes)
        metrics.collection.objects.inc(ledger.objects)
        for kind, count in ledger.removed.items():
            metrics.collection.removed.labels(kind).inc(count)
        for reason in Kept:
            metrics.collection.kept.labels(reason.name.lower()).set(ledger.kept[reason])
        metrics.collection.waiting.set(sum(ledger.waiting.values()))
        metrics.collection.waiting_bytes.set(ledger.waiting_bytes)
        metrics.collection.oldest.set(ledger.oldest)
        metrics.collection.last.set_to_current_time()

    def count_usage(self, usage: Figures, repositories: int) -> None:
        """Note what takes room on storage, without names."""
        metrics = self.metrics
        metrics.usage.repositories.set(repositories)
        metrics.usage.logical.set(usage.logical)
        metrics.usage.stored.set(usage.stored)
        for kind in ("unreferenced", "doomed", "trash"):
            metrics.usage.waiting.labels(kind).set(getattr(usage, kind))
        metrics.usage.quarantine.set(usage.quarantine)
        metrics.usage.last.set_to_current_time()

    def count_scrub(self, what: str, count: int) -> None:
        """Count what a scrub has read or found, by the words of ``registry.maintenance.scrub.findings``."""
        if what == BYTES:
            self.metrics.scrub.bytes.inc(count)
        elif what == ROUNDS:
            self.metrics.scrub.last.set_to_current_time()
        else:
            self.metrics.scrub.objects.labels(what).inc(count)

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
