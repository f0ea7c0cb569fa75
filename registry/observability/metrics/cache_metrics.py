"""Metrics of the cache: what the directories of this machine had, and what they did not do.

Tests: ``tests/observability/metrics/test_metrics.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.observability.metrics.instruments import Instruments


class CacheMetrics:
    """What is counted of the cache, by its tier: ``blob`` or ``metadata``. Any thread."""

    def __init__(self, make: Instruments) -> None:
        self._gets = make.counter(
            "registry_cache_get", "Reads of the cache, by where the bytes came from.", ["tier", "result"]
        )
        self._puts = make.counter(
            "registry_cache_put", "Objects that were to be kept in the cache, by what came of it.", ["tier", "result"]
        )
        self._bytes = make.counter(
            "registry_cache_bytes", "Bytes that the cache gave (read) and took (written).", ["tier", "direction"]
        )
        self._errors = make.counter(
            "registry_cache_errors", "Times that the directory of the cache did not do its work.", ["tier"]
        )

    def add_get(self, tier: str, result: str) -> None:
        """Count bytes that were asked for."""
        self._gets.labels(tier, result).inc()

    def add_put(self, tier: str, result: str) -> None:
        """Count bytes that were to be kept."""
        self._puts.labels(tier, result).inc()

    def add_bytes(self, tier: str, direction: str, count: int) -> None:
        """Count bytes that a directory gave or took."""
        self._bytes.labels(tier, direction).inc(count)

    def add_error(self, tier: str) -> None:
        """Count what a directory did not do, or did wrong."""
        self._errors.labels(tier).inc()
