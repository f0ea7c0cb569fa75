"""What one process shows of itself: its metrics and its log of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.observability.metrics import Metrics, RequestTally

if TYPE_CHECKING:
    from registry.observability.request_log import RequestLog


class Watch:
    """One per process."""

    def __init__(self, metrics: Metrics | None, request_log: RequestLog | None) -> None:
        self.metrics = metrics or Metrics()
        self.tally = RequestTally(self.metrics)
        self.request_log = request_log

    def observe_storage(self, driver: str, operation: str, seconds: float, failed: bool) -> None:  # noqa: FBT001 - the interface of MeasuredDriver
        """Count one operation of the storage driver."""
        self.metrics.observe_storage(driver, operation, seconds, failed=failed)

    def flush(self) -> None:
        """Write what is kept back."""
        self.tally.flush()
        if self.request_log is not None:
            self.request_log.flush()
