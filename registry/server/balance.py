"""*Balance*: connections of one listening socket are shared out evenly among the workers.

The kernel wakes whichever worker it likes, and a connection stays for many requests: eight clients could be one
worker's alone. So each worker says in shared memory how many connections it has. One that has more than another leaves
what comes to that one for a moment.
"""

from __future__ import annotations

import mmap
from typing import Final

_BYTES: Final = 8
ASIDE_SECONDS: Final = 0.002
"""For which a worker with more connections than another takes no new one; that one may be busy for longer."""


class Balance:
    """How many connections each worker has. Made by their parent, for all of them to see."""

    def __init__(self, workers: int) -> None:
        self._counts = memoryview(mmap.mmap(-1, workers * _BYTES)).cast("Q")
        self._place = 0

    def take_place(self, place: int) -> None:
        """Be the worker of this place, which has no connection yet. In its process."""
        self._place = place
        self._counts[place] = 0

    def note(self, count: int) -> None:
        """Tell every worker that this one has so many."""
        self._counts[self._place] = count

    def is_ahead(self) -> bool:
        """Whether another worker has fewer, as far as is known."""
        return self._counts[self._place] > min(self._counts)
