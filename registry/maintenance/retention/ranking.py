"""*Ranking*: how many manifests are newer than another, among those of which one rule decides a tag in one repository.

It keeps 28 bytes of a manifest, since there may be a million. No I/O.

Tests: ``tests/maintenance/retention/test_decision.py``.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right


class Ranking:
    """First each manifest is added, by growing ids; once it is closed it can be asked."""

    def __init__(self) -> None:
        self._ids = array("q")
        self._newest = array("d")
        self._undecided = array("L")
        self._times = array("d")

    def add(self, manifest: int, newest: float, undecided: int) -> None:
        """Add a manifest by its id: when a tag of it was last set, and how many of these stay if it is new enough."""
        self._ids.append(manifest)
        self._newest.append(newest)
        self._undecided.append(undecided)

    def close(self, most: int) -> int:
        """Returns how many tags go because ``most`` manifests, or more, are newer."""
        self._times = array("d", sorted(self._newest))
        pairs = zip(self._newest, self._undecided, strict=True)
        gone = sum(undecided for newest, undecided in pairs if undecided and self._after(newest) >= most)
        self._undecided = array("L")
        return gone

    def newer_than(self, manifest: int, at: float) -> int | None:
        """The manifests that are newer than one, of which a tag was set at that moment. None if it is not known.

        Those of the same time are not newer, so that a tie keeps them all.
        """
        place = bisect_left(self._ids, manifest)
        if place == len(self._ids) or self._ids[place] != manifest:
            return None
        return self._after(max(at, self._newest[place]))

    def _after(self, at: float) -> int:
        return len(self._times) - bisect_right(self._times, at)
