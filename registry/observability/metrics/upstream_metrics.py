"""Metrics of upstreams: requests of mirrors to servers of other organisations, their bytes, logins and limits.

Tests: ``tests/upstream/test_client.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.observability.metrics.fetch_metrics import FetchMetrics

if TYPE_CHECKING:
    from registry.observability.metrics.instruments import Instruments

_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class UpstreamMetrics:
    """What is counted of upstreams, by the name of the mirror. Any thread."""

    def __init__(self, make: Instruments) -> None:
        self.fetches = FetchMetrics(make)
        self._requests = make.counter(
            "registry_upstream_requests",
            "Requests of mirrors, by the status of the answer, error or refused.",
            ["mirror", "method", "result"],
        )
        self._duration = make.histogram(
            "registry_upstream_request_duration_seconds",
            "Time until the head of an answer of an upstream.",
            ["mirror"],
            _BOUNDS,
        )
        self._bytes = make.counter("registry_upstream_received_bytes", "Bytes of bodies from upstreams.", ["mirror"])
        self._logins = make.counter(
            "registry_upstream_logins", "Tokens that mirrors asked for, by what came of it.", ["mirror", "result"]
        )
        self._resumptions = make.counter(
            "registry_upstream_resumptions", "Bodies that broke off and were asked for again from there.", ["mirror"]
        )
        self._remaining = make.gauge(
            "registry_upstream_ratelimit_remaining",
            "Requests that an upstream said are left, when it last said so.",
            "mostrecent",
            ["mirror"],
        )
        self._manifests = make.counter(
            "registry_mirror_manifests",
            "Manifests that clients asked mirrors for, by where they came from.",
            ["mirror", "result"],
        )

    def add_manifest(self, mirror: str, result: str) -> None:
        """Count a manifest that a client asked for.

        ``result`` is ``cache`` or ``remote``, ``stale`` if the upstream could not be asked, ``absent`` or ``error``.
        """
        self._manifests.labels(mirror, result).inc()

    def add_request(self, mirror: str, method: str, result: str, seconds: float) -> None:
        """Count a request. ``result`` is the status of its answer, ``error``, or ``refused``: none was sent."""
        self._requests.labels(mirror, method, result).inc()
        self._duration.labels(mirror).observe(seconds)

    def add_bytes(self, mirror: str, count: int) -> None:
        """Count bytes of a body that came."""
        self._bytes.labels(mirror).inc(count)

    def add_login(self, mirror: str, result: str) -> None:
        """Count a request for a token, which gave one (``given``) or did not (``refused``, ``error``)."""
        self._logins.labels(mirror, result).inc()

    def add_resumption(self, mirror: str) -> None:
        """Count a body that is asked for again from where it broke off."""
        self._resumptions.labels(mirror).inc()

    def set_remaining(self, mirror: str, count: int) -> None:
        """Note how many requests an upstream said are left."""
        self._remaining.labels(mirror).set(count)
