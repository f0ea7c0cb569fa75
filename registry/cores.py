"""*Cores*: where each core has a worker, the threads of a worker that share the interpreter share a core, too.

A thread with the interpreter lets go of it at each call of the system. Where another core waits for it, that core takes
it in these microseconds, and both sleep and wake in turn, hundreds of times for a push. Threads of one core do not run
at the same time anyway, so the one that runs mostly goes on.

A thread begins on the cores of the one that began it. Threads that compute without the interpreter use every core.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress


class Cores:
    """Those of this process. Any thread; it does nothing where the system binds no thread to a core."""

    def __init__(self) -> None:
        self._all: frozenset[int] = frozenset()
        """Empty unless ``share`` has bound a thread."""

    def share(self, place: int, workers: int) -> None:
        """Bind the calling thread, and those that it begins, to the core of this place among so many workers.

        Nothing unless there is a worker for each core that this process may use: a core without one would stay idle,
        and where there are more cores than workers the system knows better which of them are busy with other work.
        """
        if sys.platform != "linux":
            return
        cores = frozenset(os.sched_getaffinity(0))
        if len(cores) == workers and _bind({sorted(cores)[place]}):
            self._all = cores

    def use_all(self) -> None:
        """Let the calling thread run on every core that the process had: for what works without the interpreter."""
        if self._all:
            _bind(self._all)


def _bind(cores: frozenset[int] | set[int]) -> bool:
    """False where the system refuses: a core has gone, or a container may not."""
    with suppress(OSError):
        os.sched_setaffinity(0, cores)
        return True
    return False


cores = Cores()
