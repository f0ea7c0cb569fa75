"""Rounds of one measurement: median, spread, ratio, and how busy the machine was with other things."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from pathlib import Path

NOISY_SPREAD = 0.25
NOISY_BUSY = 0.15
_LOOK_SECONDS = 0.25


@dataclasses.dataclass(slots=True)
class Series:
    """The values of one measurement on one server, one per round, each with the share of the machine busy before it."""

    values: list[float] = dataclasses.field(default_factory=list)
    busy: list[float] = dataclasses.field(default_factory=list)

    def add(self, value: float, busy: float) -> None:
        """Add a round."""
        self.values.append(value)
        self.busy.append(busy)

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0

    @property
    def noisy(self) -> bool:
        """Whether the rounds differ much or something else was running."""
        return self.spread > NOISY_SPREAD or max(self.busy) > NOISY_BUSY


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _ticks() -> tuple[int, int]:
    with Path("/proc/stat").open(encoding="ascii") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def busy_share() -> float:
    """Return the share of all processors that was busy during the next quarter of a second."""
    total, idle = _ticks()
    time.sleep(_LOOK_SECONDS)
    total_after, idle_after = _ticks()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def settle(patience_seconds: float) -> float:
    """Flush what earlier work left dirty, then wait until the machine is quiet, at most so long.

    Returns the busy share of the last look: what a measurement that starts now has to share the machine with.
    """
    os.sync()
    deadline = time.monotonic() + patience_seconds
    while (share := busy_share()) > NOISY_BUSY and time.monotonic() < deadline:
        pass
    return share
