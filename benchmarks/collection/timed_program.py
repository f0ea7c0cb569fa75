"""``registry`` that times its own turns to write: ``python -m benchmarks.collection.timed_program FILE ARGUMENTS...``.

It leaves JSON in the file: how many turns, and of their milliseconds the longest and the 99th of 100.
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


class TimedLock(WriteLock):
    """The turn to write, which remembers how long each was."""

    _began = 0.0

    def acquire(self) -> None:
        """Wait for the turn, and note when it begins."""
        super().acquire()
        self._began = time.monotonic()

    def release(self) -> None:
        """End the turn, and keep its seconds."""
        turns.append(time.monotonic() - self._began)
        super().release()


def _tell(file: Path) -> None:
    longest, most = (round(percentile(turns, share), 1) for share in (1.0, 0.99))
    file.write_text(json.dumps({"turns": len(turns), "longest": longest, "p99": most}))


if __name__ == "__main__":
    atexit.register(_tell, Path(sys.argv[1]))
    sys.argv[:2] = ["registry"]
    engine.WriteLock = TimedLock  # type: ignore[attr-defined]
    main()
