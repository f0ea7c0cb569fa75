"""Metrics of fetches: blobs on their way from upstreams, and how the processes share them.

Tests: ``tests/images/fetching/test_hub.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.observability.metrics.instruments import Instruments

_PASSED = {"late": "passed_late", "ahead": "passed_ahead"}


class FetchMetrics:
    """What is counted of fetches, by the name of the mirror: a listener to a hub of them. Any thread."""

    def __init__(self, make: Instruments) -> None:
        self._fetches = make.counter(
            "registry_mirror_fetches",
            "Fetches of blobs as processes had part in them: led, took_over, followed, passed_late or passed_ahead.",
            ["mirror", "part"],
        )
        self._failures = make.counter(
            "registry_mirror_fetch_failures", "Fetches that ended without their blob.", ["mirror", "reason"]
        )
        self._in_flight = make.gauge(
            "registry_mirror_fetches_in_flight", "Blobs that come from upstreams now.", "livesum", ["mirror"]
        )

    def led(self, mirror: str, *, goes_on: bool) -> None:
        """Count a fetch that this process leads; ``goes_on``: from where another leader was."""
        self._fetches.labels(mirror, "took_over" if goes_on else "led").inc()
        self._in_flight.labels(mirror).inc()

    def ended(self, mirror: str) -> None:
        """This process leads one fetch less."""
        self._in_flight.labels(mirror).dec()

    def followed(self, mirror: str) -> None:
        """Count a fetch of another process, of which clients of this one have the bytes."""
        self._fetches.labels(mirror, "followed").inc()

    def passed(self, mirror: str, cause: str) -> None:
        """Count a client that has its bytes from the upstream beside the fetch: ``late`` or ``ahead``."""
        self._fetches.labels(mirror, _PASSED[cause]).inc()

    def failed(self, mirror: str, reason: str) -> None:
        """Count a fetch that this process led, and that ended without its blob."""
        self._failures.labels(mirror, reason).inc()
