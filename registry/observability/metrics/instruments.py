"""Instruments: counters, gauges and histograms of one process, and how a scrape reads all workers together.

Tests: ``tests/observability/metrics/test_metrics.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from registry.observability.metrics.metrics_directory import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    Sum = Literal["livesum", "livemax", "livemostrecent", "mostrecent"]


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[float], seconds: float) -> None:
        """Add ``counts[i]`` observations to the i-th bucket (each bound's own, not the running sum) and their sum."""
        self._sum.inc(seconds)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class Instruments:
    """Makes the instruments of one process and renders them. Safe for threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter."""
        return Counter(name, text, labels, registry=self._registry)

    def latest(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Make a gauge of which the value counts that any process has set last, also one that has ended."""
        return self.gauge(name, text, "mostrecent", labels)

    def gauge(self, name: str, text: str, over_workers: Sum, labels: Sequence[str] = ()) -> Gauge:
        """Make a gauge, and say what a scrape shows of the values of all workers."""
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=over_workers)

    def histogram(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> BulkHistogram:
        """Make a histogram."""
        return BulkHistogram(name, text, labels, buckets=bounds, registry=self._registry)

    def render(self) -> bytes:
        """The text for a scrape: of all workers that share a directory, else of this process."""
        directory = os.environ.get(VARIABLE)
        if directory is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together, path=directory)  # type: ignore[no-untyped-call]
        return generate_latest(together)
