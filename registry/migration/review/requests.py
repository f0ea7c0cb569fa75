"""Requests to a store by the kinds that are billed: those that were made, and those that a phase will make."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Final

_KINDS: Final = {
    "list_objects_v2": "list",
    "head_object": "head",
    "get_object": "get",
    "objects.list": "list",
    "objects.get": "get",
    "list": "list",
    "children": "list",
    "stat": "head",
    "read": "get",
    "open": "get",
}
"""The kind of each operation that a driver reports (S3, GCS, and a MeasuredDriver) during a review."""


@dataclass(slots=True)
class Requests:
    """How many of each kind."""

    list: int = 0
    head: int = 0
    get: int = 0
    put: int = 0
    copy: int = 0
    delete: int = 0

    @property
    def total(self) -> int:
        """The number of all kinds together."""
        return sum(asdict(self).values())

    def __add__(self, other: Requests) -> Requests:
        """Both together."""
        return Requests(**{kind: number + getattr(other, kind) for kind, number in asdict(self).items()})


class Tally:
    """Counts the requests of this process as they are made, and how long a kind took. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def observe(self, driver: str, operation: str, seconds: float, failed: bool) -> None:  # noqa: ARG002, FBT001 - see Observe
        """Note one request, also one that failed: it is billed. See registry.storage.middleware.metrics.Observe."""
        kind = _KINDS.get(operation)
        if kind is None:
            return
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    @property
    def requests(self) -> Requests:
        """What was counted."""
        with self._lock:
            return Requests(**self._counts)

    def mean(self, kind: str) -> float:
        """Seconds that a request of a kind took; 0 where there was none."""
        with self._lock:
            return self._seconds.get(kind, 0.0) / max(1, self._counts.get(kind, 0))
