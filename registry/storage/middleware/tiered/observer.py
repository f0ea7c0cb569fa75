"""*Observer*: what the tier did, counted for metrics and told in lines of the log.

Tests: ``tests/storage/middleware/tiered/test_serving.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

import structlog

if TYPE_CHECKING:
    from pathlib import Path

    from registry.storage.driver import ObjectStat

log = structlog.get_logger(__name__)

Tier = Literal["blob", "metadata"]
Got = Literal["hit", "fault_hit", "fault_miss", "error"]
"""It was kept; only the store had it; not even the store had it; the store did not answer."""
Put = Literal["kept", "no_room", "wrong", "unfinished", "error"]
"""Bytes were kept; there was no room; they have another digest; a reader left; the directory did not take them."""


class CacheCounter(Protocol):
    """Counts. Any thread."""

    def add_get(self, tier: Tier, result: Got) -> None:
        """Count bytes that were asked for."""

    def add_put(self, tier: Tier, result: Put) -> None:
        """Count bytes that were to be kept."""

    def add_bytes(self, tier: Tier, direction: Literal["read", "written"], count: int) -> None:
        """Count bytes that a directory gave or took."""

    def add_error(self, tier: Tier) -> None:
        """Count what a directory did not do, or did wrong."""


class CacheObserver:
    """That of one tier. Any thread."""

    def __init__(self, tier: Tier, counter: CacheCounter | None = None, *, log_requests: bool = False) -> None:
        self._tier: Final[Tier] = tier
        self._counter = counter
        self._log = log_requests

    def begin(self, key: str, digest: str) -> None:
        """Note that bytes are asked for."""
        if self._log:
            log.info('B GET "%s" (sha256:%s)', key, digest)

    def got(self, key: str, result: Got, elapsed: float) -> None:
        """Note where they come from."""
        if self._counter is not None:
            self._counter.add_get(self._tier, result)
        if self._log:
            log.info('F GET "%s" %s elapsed=%.4f', key, result, elapsed)

    def lost(self, key: str, error: Exception, elapsed: float) -> None:
        """Note that the store did not answer."""
        if self._counter is not None:
            self._counter.add_get(self._tier, "error")
        if self._log:
            log.info('E GET "%s" err="%s" elapsed=%.4f', key, error, elapsed)

    def put(self, key: str, stat: ObjectStat | None, result: Put) -> None:
        """Note what became of bytes that were to be kept; ``stat`` is None where their object is not known."""
        if self._counter is not None:
            self._counter.add_put(self._tier, result)
            if result == "kept" and stat is not None:
                self._counter.add_bytes(self._tier, "written", stat.size)
        if self._log:
            log.info('W PUT "%s" %s%s', key, "" if stat is None else f"{stat.size} bytes ", result)

    def gave(self, count: int) -> None:
        """Note that a kept file gave bytes."""
        if self._counter is not None and count:
            self._counter.add_bytes(self._tier, "read", count)

    def failed(self, path: Path, error: Exception) -> None:
        """Note that the directory did not do its work; it is logged also where requests are not."""
        if self._counter is not None:
            self._counter.add_error(self._tier)
        log.warning("the cache failed; the store answers in its place", path=str(path), reason=str(error))
