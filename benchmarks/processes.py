"""Memory and processor time of a server: the process that was started and all its descendants."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
MEBIBYTE = 1 << 20


def tree(pid: int) -> list[int]:
    """Return the process and its descendants; one that ended meanwhile is left out."""
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in children.read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def resident(pid: int) -> int:
    """Return the sum of the tree's resident sets in bytes; a page that two processes share counts twice."""
    pages = 0
    for each in tree(pid):
        try:
            pages += int(Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1])
        except OSError:
            continue
    return pages * _PAGE_BYTES


def processor_seconds(pid: int) -> float:
    """Return what the tree has used since it started, with children that have ended, in processor seconds."""
    ticks = 0
    for each in tree(pid):
        try:
            stat = Path(f"/proc/{each}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        ticks += sum(int(field) for field in stat.rpartition(")")[2].split()[11:15])
    return ticks / _TICKS


class Peak:
    """The largest resident set seen; `sample` is called while the load runs."""

    def __init__(self, pid: int) -> None:
        """Watch the tree that starts at ``pid``."""
        self._pid = pid
        self.bytes = 0

    def sample(self) -> None:
        """Look once."""
        self.bytes = max(self.bytes, resident(self._pid))
