"""What a run found: series by server and figure, and each row's verdict."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.measure import Series
from benchmarks.rows import Comparison, Limit, Ratio, Row

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclasses.dataclass(slots=True)
class Results:
    """Series by (server, figure), and what could not be measured."""

    series: dict[tuple[str, str], Series] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)

    def add(self, server: str, figures: dict[str, float], busy: float) -> None:
        """Add one round of a scenario on a server."""
        for figure, value in figures.items():
            self.series.setdefault((server, figure), Series()).add(value, busy)

    def get(self, server: str, figure: str) -> Series | None:
        """Return the series, or None where nothing was measured."""
        return self.series.get((server, figure))

    def best(self, row: Comparison, peers: Iterable[str]) -> tuple[str, float] | None:
        """Return the best of the peers in a row and its median, or None where none was measured."""
        medians = [(peer, series.median) for peer in peers if (series := self.get(peer, row.figure)) is not None]
        choose = min if row.fewer else max
        return choose(medians, key=lambda pair: pair[1], default=None)

    def ratio(self, row: Comparison, target: Ratio) -> float | None:
        """Return how many times better ours is than the target's best peer, or None where one side is missing."""
        ours, best = self.get(row.ours, row.figure), self.best(row, target.peers)
        if ours is None or best is None:
            return None
        more, less = (best[1], ours.median) if row.fewer else (ours.median, best[1])
        return more / less if less else None

    def holds(self, row: Row) -> bool | None:
        """Return whether the row reaches what it has to, or None where that cannot be said."""
        if isinstance(row, Limit):
            series = self.get(row.ours, row.figure)
            return None if series is None or row.most is None else series.median <= row.most
        ratios = [(self.ratio(row, target), target.least) for target in row.least]
        known = [ratio >= least for ratio, least in ratios if ratio is not None]
        return all(known) if known else None
