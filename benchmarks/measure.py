"""Rounds of one measurement: median, spread, ratio, and how busy the machine was with other things."""

from __future__ import annotations

import dataclasses
import statistics

NOISY_SPREAD = 0.25
NOISY_BUSY = 0.15  # kernel threads that write back what the server wrote take a few hundredths


@dataclasses.dataclass(slots=True)
class Series:
    """The values of one measurement on one server, one per round, each with the share of other processes."""

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
