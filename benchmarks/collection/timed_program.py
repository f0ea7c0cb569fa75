"""``registry`` that times its own turns to write: ``python -m benchmarks.collection.timed_program FILE ARGUMENTS...``.

It leaves JSON in the file: how many turns, and of their milliseconds the longest and the 99th of 100;
``longest_computed`` counts only the time in which the thread had a processor.
"""

from __future__ import annotations

import atexit
import json
import sys
import time
from pathlib import Path

from benchmarks.collection.traffic import percentile
from registry.cli.main import main
from registry.database import engine
from registry.database.sqlite.write_lock import WriteLock

turns: list[float] = []
"""Seconds of each turn."""
computed: list[float] = []
"""Seconds of each turn in which its thread had a processor."""


class TimedLock(WriteLock):
    """The turn to write, which remembers how long each was."""

    _began = 0.0
    _computed = 0.0

    def acquire(self) -> None:
        """Wait for the turn, and note when it begins."""
        super().acquire()
        self._began, self._computed = time.monotonic(), time.thread_time()

    def release(self) -> None:
        """End the turn, and keep its seconds."""
        turns.append(time.monotonic() - self._began)
        computed.append(time.thread_time() - self._computed)
        super().release()


def _tell(file: Path) -> None:
    told = {"longest": percentile(turns, 1.0), "p99": percentile(turns, 0.99)}
    told["longest_computed"] = percentile(computed, 1.0)
    file.write_text(json.dumps({"turns": len(turns)} | {name: round(each, 1) for name, each in told.items()}))


if __name__ == "__main__":
    atexit.register(_tell, Path(sys.argv[1]))
    sys.argv[:2] = ["registry"]
    engine.WriteLock = TimedLock  # type: ignore[attr-defined]
    main()
