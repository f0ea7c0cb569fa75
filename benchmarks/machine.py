"""What else the machine does: a figure is only worth something where that is little."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import NOISY_BUSY
from benchmarks.processes import processor_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK_SECONDS = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")


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


def settle(patience_seconds: float) -> None:
    """Flush what earlier work left dirty, then wait until the machine is quiet, at most so long."""
    os.sync()
    deadline = time.monotonic() + patience_seconds
    while busy_share() > NOISY_BUSY and time.monotonic() < deadline:
        pass


class Others:
    """The share of the machine that neither the measured processes nor their clients use, from construction on."""

    def __init__(self, pids: Sequence[int]) -> None:
        """Begin; ``pids`` are the first processes of the server and of what it works with."""
        self._pids = pids
        self._start = _ticks()
        self._known = self._own()

    def share(self) -> float:
        """Return the share so far, between 0 and 1."""
        total, idle = _ticks()
        busy = (total - self._start[0]) - (idle - self._start[1])
        own = (self._own() - self._known) * _TICKS
        return min(1.0, max(0.0, busy - own) / max(1, total - self._start[0]))

    def _own(self) -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(map(processor_seconds, self._pids)) + sum(usage.ru_utime + usage.ru_stime for usage in usages)
