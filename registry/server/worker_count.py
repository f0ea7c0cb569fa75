"""*Worker count*: how many processes serve where the configuration leaves it to the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from registry.config.sections import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.config.sections import HttpSettings

MOST: Final = 4
"""Workers at most unless the configuration has a number: each takes some 100 MiB, and SQLite has one writer."""
_FILES: Final = Path("/")


def worker_count(http: HttpSettings, *, conditional_writes: bool) -> int:
    """Tell how many workers serve: the configured number, else one for each core that this process may use.

    One where the store ignores conditional writes, which one process alone may write to.
    """
    if http.workers != AUTO:
        return http.workers
    return max(1, min(MOST, usable_cores())) if conditional_writes else 1


def usable_cores(files: Path = _FILES) -> int:
    """Tell how many cores this process may use: what it is bound to, less what its control groups grant.

    A part of a core counts as a whole one. ``files`` is where ``/proc`` and ``/sys`` are.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([bound, *(math.ceil(share) for share in _granted(files))])


def _granted(files: Path) -> Iterator[float]:
    """Cores that each control group of this process and each above it grants; nothing where there is no bound."""
    try:
        lines = (files / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            for place in _upward(files / "sys/fs/cgroup", group):
                yield from _share(place / "cpu.max")
        elif "cpu" in controllers.split(","):
            for place in _upward(files / "sys/fs/cgroup/cpu", group):
                yield from _share(place / "cpu.cfs_quota_us", place / "cpu.cfs_period_us")


def _upward(mount: Path, group: str) -> Iterator[Path]:
    """The directory of a group, and of each above it; in a container the mount itself is often the group."""
    path = PurePosixPath(group)
    for each in (path, *path.parents):
        yield mount / str(each).lstrip("/")


def _share(*files: Path) -> Iterator[float]:
    """Microseconds of each period, divided by the period's: from one file with both numbers, or a file for each."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        share = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group; "max"
        return
    if share > 0:  # -1 is no bound
        yield share
