"""HTTP metrics: requests, bytes and connections, with bounded labels: route templates, known methods.

Tests: ``tests/observability/metrics/test_metrics.py``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.observability.metrics.instruments import Instruments

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "OTHER"

_BOUNDS = (
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
_COUNT, _SECONDS, _RECEIVED, _SENT, _BUCKETS = range(5)
"""Positions in the cell of a tally; the counts of the buckets follow."""


class HttpMetrics:
    """What is counted of requests and connections."""

    def __init__(self, make: Instruments) -> None:
        route = ["route", "method"]
        self.requests = make.counter("registry_http_requests", "Requests answered.", [*route, "status"])
        self.duration = make.histogram(
            "registry_http_request_duration_seconds",
            "Time from the first byte of a request to the last of its answer.",
            route,
            _BOUNDS,
        )
        self.received = make.counter("registry_http_received_bytes", "Bytes of request bodies.")
        self.sent = make.counter("registry_http_sent_bytes", "Bytes of response bodies.")
        self.connections = make.gauge("registry_http_connections", "Connections that are open.", "livesum")
        self.connections_ended = make.counter(
            "registry_http_connections_ended", "Connections that the server ended early.", ["reason"]
        )


class RequestTally:
    """Counts requests in plain dictionaries (under 1 µs each) and adds them to the metrics when flushed.

    For one thread, which flushes once a second and before a scrape.
    """

    __slots__ = ("_cells", "_metrics", "connections", "ended")

    def __init__(self, metrics: HttpMetrics) -> None:
        self._metrics = metrics
        self._cells: dict[tuple[str, str, int], list[float]] = {}
        self.connections = 0
        """Open ones, as far as is known."""
        self.ended: Counter[str] = Counter()
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
        cell[_BUCKETS + bisect_left(_BOUNDS, seconds)] += 1

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
            metrics.requests.labels(route, method, status).inc(cell[_COUNT])
            metrics.duration.labels(route, method).add(cell[_BUCKETS:], cell[_SECONDS])
            metrics.received.inc(cell[_RECEIVED])
            metrics.sent.inc(cell[_SENT])
            cell[:] = _empty_cell()


def _empty_cell() -> list[float]:
    return [0.0] * (_BUCKETS + len(_BOUNDS) + 1)
