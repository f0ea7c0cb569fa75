"""Every metric of one process, which a scrape sums over all workers."""

from __future__ import annotations

import platform
from importlib import metadata

from prometheus_client import multiprocess

from registry import DISTRIBUTION
from registry.observability.metrics.cache_metrics import CacheMetrics
from registry.observability.metrics.http_metrics import HttpMetrics
from registry.observability.metrics.instruments import Instruments
from registry.observability.metrics.job_metrics import CollectionMetrics, RetentionMetrics, ScrubMetrics, UsageMetrics
from registry.observability.metrics.storage_metrics import StorageMetrics
from registry.observability.metrics.upstream_metrics import UpstreamMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One instance per process; safe for threads."""

    def __init__(self) -> None:
        self._instruments = make = Instruments()
        self.http = HttpMetrics(make)
        self.storage = StorageMetrics(make)
        self.cache = CacheMetrics(make)
        self.log_lines_dropped = make.counter(
            "registry_log_lines_dropped", "Lines of the log that found no room, as stderr was not read in time."
        )
        self.audit_lines_dropped = make.counter(
            "registry_audit_lines_dropped", "Lines of the audit log that its file did not take."
        )
        self.uploads_open = make.gauge(
            "registry_uploads_open", "Upload sessions that are neither finished nor cancelled.", "livemostrecent"
        )
        self.retention = RetentionMetrics(make)
        self.collection = CollectionMetrics(make)
        self.usage = UsageMetrics(make)
        self.scrub = ScrubMetrics(make)
        self.upstream = UpstreamMetrics(make)
        versions = make.gauge(
            "registry_build_info", "1, with the versions in its labels.", "livemax", ["version", "python"]
        )
        versions.labels(metadata.version(DISTRIBUTION), platform.python_version()).set(1)

    def render(self) -> bytes:
        """The text for a scrape (``CONTENT_TYPE``)."""
        return self._instruments.render()


def forget_worker(process_id: int) -> None:
    """Drop the gauges of a worker that has ended; its counters stay in the sum. For the process that starts workers."""
    multiprocess.mark_process_dead(process_id)  # type: ignore[no-untyped-call]
