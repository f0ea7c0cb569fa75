"""*Listener* to fetches: what a hub tells of them, so that they can be counted.

Tests: ``tests/images/fetching/test_hub.py``.
"""

from __future__ import annotations

from typing import Protocol


class FetchListener(Protocol):
    """Any thread. ``mirror`` is the name of one; ``registry.observability.metrics.FetchMetrics`` is such."""

    def led(self, mirror: str, *, goes_on: bool) -> None:
        """This process has begun to lead; ``goes_on``: from where another leader was."""

    def ended(self, mirror: str) -> None:
        """It leads that fetch no more."""

    def followed(self, mirror: str) -> None:
        """Clients of this process have a fetch that another process leads."""

    def passed(self, mirror: str, cause: str) -> None:
        """A client has its bytes from the upstream beside the fetch: ``late`` or ``ahead``."""

    def failed(self, mirror: str, reason: str) -> None:
        """A fetch that this process led ended without its blob."""


class NoListener:
    """A FetchListener that hears nothing."""

    def led(self, mirror: str, *, goes_on: bool) -> None:
        """See FetchListener."""

    def ended(self, mirror: str) -> None:
        """See FetchListener."""

    def followed(self, mirror: str) -> None:
        """See FetchListener."""

    def passed(self, mirror: str, cause: str) -> None:
        """See FetchListener."""

    def failed(self, mirror: str, reason: str) -> None:
        """See FetchListener."""
