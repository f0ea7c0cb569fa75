"""Metrics: the sum over all workers, with bounded labels: route templates, known methods, operations."""

from __future__ import annotations

import os
import platform
import threading
from bisect import bisect_left
from collections import Counter as Counts
from importlib import metadata
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from registry import DISTRIBUTION
from registry.observability.metrics_directory import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "OTHER"

_REQUEST_BOUNDS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)
_STORAGE_BOUNDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_COUNT, _SECONDS, _RECEIVED, _SENT, _BUCKETS = range(5)
"""Positions in the cell of a tally of requests; the counts of the buckets follow."""
_FAILED = 2
"""Position in the cell of a tally of storage operations, after count and seconds; the counts of the buckets follow."""


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[float], seconds: float) -> None:
        """Add ``counts[i]`` observations to the i-th bucket (each bound's own, not the running sum) and their sum."""
        self._sum.inc(seconds)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Metrics:
    """Every metric of one process. One instance per process; safe for threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        route = ["route", "method"]
        operation = ["driver", "operation"]
        self.http_requests = self._counter("registry_http_requests", "Requests answered.", [*route, "status"])
        self.http_duration = BulkHistogram(
            "registry_http_request_duration_seconds",
            "Time from the first byte of a request to the last of its answer.",
            route,
            buckets=_REQUEST_BOUNDS,
            registry=self._registry,
        )
        self.http_received = self._counter("registry_http_received_bytes", "Bytes of request bodies.")
        self.http_sent = self._counter("registry_http_sent_bytes", "Bytes of response bodies.")
        self.connections = Gauge(
            "registry_http_connections",
            "Connections that are open.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.connections_ended = self._counter(
            "registry_http_connections_ended", "Connections that the server ended early.", ["reason"]
        )
        self.storage_requests = self._counter("storage_requests", "Operations of the storage driver.", operation)
        self.storage_errors = self._counter("storage_errors", "Storage operations that failed.", operation)
        self.storage_duration = BulkHistogram(
            "storage_request_duration_seconds",
            "Time of a storage operation.",
            operation,
            buckets=_STORAGE_BOUNDS,
            registry=self._registry,
        )
        self.log_lines_dropped = self._counter(
            "registry_log_lines_dropped", "Lines of the log that found no room, as stderr was not read in time."
        )
        self.audit_lines_dropped = self._counter(
            "registry_audit_lines_dropped", "Lines of the audit log that its file did not take."
        )
        self.storage_omissions = self._counter(
            "storage_omissions",
            "Things on storage that are not served, each counted when the log names it.",
            ["kind"],
        )
        self.uploads_open = Gauge(
            "registry_uploads_open",
            "Upload sessions that are neither finished nor cancelled.",
            registry=self._registry,
            multiprocess_mode="livemostrecent",
        )
        self.retention_runs = self._counter("registry_retention_runs", "Scheduled runs of retention.", ["result"])
        self.retention_removed = self._counter(
            "registry_retention_tags_removed", "Tags that scheduled runs of retention have removed."
        )
        self.retention_last = self._latest(
            "registry_retention_last_run_timestamp_seconds", "When a scheduled run of retention last ended."
        )
        self.retention_kept = self._latest("registry_retention_tags_kept", "Tags that the last run has kept.")
        self.retention_excess = self._latest(
            "registry_retention_tags_in_excess", "Tags that the last run would remove if retention.mode were apply."
        )
        self.retention_left_alone = self._latest(
            "registry_retention_repositories_left_alone",
            "Repositories that the last run has left alone, because too much would go or they could not be read.",
        )
        self.collection_runs = self._counter("registry_collection_runs", "Scheduled collections.", ["result"])
        self.collection_freed = self._counter(
            "registry_collection_freed_bytes", "Bytes that scheduled collections have freed."
        )
        self.collection_objects = self._counter(
            "registry_collection_deleted_objects", "Objects that scheduled collections have deleted."
        )
        self.collection_removed = self._counter(
            "registry_collection_removed", "Things that scheduled collections have removed.", ["kind"]
        )
        self.collection_kept = Gauge(
            "registry_collection_kept",
            "Things out of use that the last collection has kept.",
            ["reason"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self.collection_waiting = self._latest(
            "registry_collection_waiting", "Things out of use that a later collection removes."
        )
        self.collection_waiting_bytes = self._latest(
            "registry_collection_waiting_bytes", "Bytes of things out of use that a later collection removes."
        )
        self.collection_oldest = self._latest(
            "registry_collection_oldest_seconds", "How long the oldest thing out of use has been so, when last counted."
        )
        self.collection_last = self._latest(
            "registry_collection_last_success_timestamp_seconds", "When a scheduled collection last ended by itself."
        )
        self.usage_repositories = self._latest(
            "registry_usage_repositories", "Repositories, when usage was last counted."
        )
        self.usage_logical = self._latest(
            "registry_usage_logical_bytes", "Bytes of manifests, and of blobs as often as manifests name them."
        )
        self.usage_stored = self._latest("registry_usage_stored_bytes", "Bytes of blobs on storage, each counted once.")
        self.usage_waiting = Gauge(
            "registry_usage_waiting_bytes",
            "Bytes of blobs on storage that no manifest names, by what they wait for.",
            ["kind"],
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self.usage_last = self._latest(
            "registry_usage_last_count_timestamp_seconds", "When usage was last counted to its end."
        )
        self.scrub_bytes = self._counter("registry_scrub_bytes", "Bytes that scheduled scrubs have read.")
        self.scrub_objects = self._counter(
            "registry_scrub_objects", "Objects that scheduled scrubs have judged.", ["result"]
        )
        self.scrub_last = self._latest(
            "registry_scrub_last_success_timestamp_seconds", "When a round of scheduled scrubbing last ended."
        )
        Gauge(
            "registry_build_info",
            "1, with the versions in its labels.",
            ["version", "python"],
            registry=self._registry,
            multiprocess_mode="livemax",
        ).labels(metadata.version(DISTRIBUTION), platform.python_version()).set(1)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _latest(self, name: str, text: str) -> Gauge:
        """A gauge of which the value counts that any process has set last, also one that has ended."""
        return Gauge(name, text, registry=self._registry, multiprocess_mode="mostrecent")

    def render(self) -> bytes:
        """The text for a scrape (``CONTENT_TYPE``): of all workers that share a directory, else of this process."""
        directory = os.environ.get(VARIABLE)
        if directory is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together, path=directory)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def forget_worker(process_id: int) -> None:
    """Drop the gauges of a worker that has ended; its counters stay in the sum. For the process that starts workers."""
    multiprocess.mark_process_dead(process_id)  # type: ignore[no-untyped-call]


class RequestTally:
    """Counts requests in plain dictionaries (under 1 µs each) and adds them to the metrics when flushed.

    For one thread, which flushes once a second and before a scrape.
    """

    __slots__ = ("_cells", "_metrics", "connections", "ended")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._cells: dict[tuple[str, str, int], list[float]] = {}
        self.connections = 0
        """Open ones, as far as is known."""
        self.ended: Counts[str] = Counts()
        """Connections that the server ended, by reason, since the last flush."""

    def add(self, route: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count one answered request. ``route`` is a template of the application, never a path; sizes are of bodies."""
        if method not in METHODS:
            method = OTHER
        cell = self._cells.get((route, method, status))
        if cell is None:
            cell = self._cells[route, method, status] = _empty_cell()
        cell[_COUNT] += 1
        cell[_SECONDS] += seconds
        cell[_RECEIVED] += received
        cell[_SENT] += sent
        cell[_BUCKETS + bisect_left(_REQUEST_BOUNDS, seconds)] += 1

    def flush(self) -> None:
        """Move the counts into the metrics."""
        metrics = self._metrics
        metrics.connections.set(self.connections)
        for reason, count in self.ended.items():
            metrics.connections_ended.labels(reason).inc(count)
        self.ended.clear()
        for (route, method, status), cell in self._cells.items():
            if not cell[_COUNT]:
                continue
            metrics.http_requests.labels(route, method, status).inc(cell[_COUNT])
            metrics.http_duration.labels(route, method).add(cell[_BUCKETS:], cell[_SECONDS])
            metrics.http_received.inc(cell[_RECEIVED])
            metrics.http_sent.inc(cell[_SENT])
            cell[:] = _empty_cell()


class StorageTally:
    """Counts storage operations as ``RequestTally`` counts requests; any thread."""

    __slots__ = ("_cells", "_lock", "_metrics")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, str], list[float]] = {}

    def add(self, driver: str, operation: str, kind: str | None, seconds: float, failed: bool) -> None:  # noqa: ARG002, FBT001 - as Observe has it
        """Count one operation. ``failed``: the store did not answer; "not found" is an answer."""
        bucket = _FAILED + 1 + bisect_left(_STORAGE_BOUNDS, seconds)
        with self._lock:
            cell = self._cells.get((driver, operation))
            if cell is None:
                cell = self._cells[driver, operation] = _empty_storage_cell()
            cell[_COUNT] += 1
            cell[_SECONDS] += seconds
            cell[_FAILED] += failed
            cell[bucket] += 1

    def flush(self) -> None:
        """Move the counts into the metrics."""
        with self._lock:
            cells, self._cells = self._cells, {}
        for labels, cell in cells.items():
            self._metrics.storage_requests.labels(*labels).inc(cell[_COUNT])
            self._metrics.storage_errors.labels(*labels).inc(cell[_FAILED])
            self._metrics.storage_duration.labels(*labels).add(cell[_FAILED + 1 :], cell[_SECONDS])


def _empty_cell() -> list[float]:
    return [0.0] * (_BUCKETS + len(_REQUEST_BOUNDS) + 1)


def _empty_storage_cell() -> list[float]:
    return [0.0] * (_FAILED + 1 + len(_STORAGE_BOUNDS) + 1)
