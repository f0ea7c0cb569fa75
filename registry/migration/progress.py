"""Progress: how far a phase has come, and how fast."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

WINDOW_SECONDS: Final = 30.0
"""The rate is measured over the last so many seconds: older work says little about what comes."""
_SAMPLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of one phase."""

    phase: str
    """A word for a person: ``listing``."""
    objects: int
    of: int | None = None
    """None while it is not known."""
    bytes: int = 0
    of_bytes: int = 0
    per_second: float = 0.0
    """Objects, lately; 0 while it is not known."""
    bytes_per_second: float = 0.0
    """As ``per_second``."""
    seconds_left: float | None = None
    """None while it is not known."""


OnProgress = Callable[[Progress], None]
"""Called often, in the thread that does the work; it must return at once."""


def silent(_progress: Progress) -> None:
    """Report nothing."""


class _Sample(NamedTuple):
    at: float
    objects: int
    bytes: int


class Meter:
    """Measures a phase whose objects and bytes are known, and reports each step. One thread."""

    def __init__(
        self,
        phase: str,
        of: int,
        of_bytes: int,
        on_progress: OnProgress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._phase = phase
        self._of = of
        self._of_bytes = of_bytes
        self._on_progress = on_progress
        self._clock = clock
        self._objects = 0
        self._bytes = 0
        self._samples = deque([_Sample(clock(), 0, 0)])

    def add(self, objects: int, size: int) -> None:
        """Count ``objects`` more, with ``size`` bytes in all."""
        self._objects += objects
        self._bytes += size
        self._on_progress(self._moment())

    def _moment(self) -> Progress:
        now = self._clock()
        samples = self._samples
        while len(samples) > 1 and samples[1].at <= now - WINDOW_SECONDS:
            samples.popleft()
        first = samples[0]
        passed = now - first.at
        if now - samples[-1].at >= _SAMPLE_SECONDS:
            samples.append(_Sample(now, self._objects, self._bytes))
        per_second = (self._objects - first.objects) / passed if passed > 0 else 0.0
        bytes_per_second = (self._bytes - first.bytes) / passed if passed > 0 else 0.0
        # What is left takes as long as its objects at their rate, or its bytes at theirs: whichever is slower.
        left = [
            _seconds(self._of - self._objects, per_second),
            _seconds(self._of_bytes - self._bytes, bytes_per_second),
        ]
        known = [seconds for seconds in left if seconds is not None]
        return Progress(
            self._phase,
            self._objects,
            max(self._of, self._objects),
            self._bytes,
            max(self._of_bytes, self._bytes),
            per_second,
            bytes_per_second,
            max(known) if len(known) == len(left) else None,
        )


def _seconds(left: int, rate: float) -> float | None:
    if left <= 0:
        return 0.0
    return left / rate if rate > 0 else None
