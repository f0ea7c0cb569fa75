"""``registry`` that counts its own work: ``python -m tests.soak.collecting.counted_program FILE ARGUMENTS...``.

It leaves JSON in the file: instructions of SQLite's machine, all of them and the most in one write transaction; the
number of write transactions; and the most memory that the process had (bytes).
"""

from __future__ import annotations

import atexit
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import event
from sqlalchemy.pool import Pool

from registry.cli.main import main
from registry.database import engine
from registry.database.sqlite.write_lock import WriteLock

if TYPE_CHECKING:
    import sqlite3

GRAIN = 100
"""Instructions between two counts."""


class Work:
    """What this process has done."""

    instructions = 0
    most = 0
    transactions = 0


class CountedLock(WriteLock):
    """The turn to write, which remembers how much was done in each."""

    _before = 0

    def acquire(self) -> None:
        super().acquire()
        Work.transactions += 1
        self._before = Work.instructions

    def release(self) -> None:
        Work.most = max(Work.most, Work.instructions - self._before)
        super().release()


def _count() -> int:
    Work.instructions += GRAIN
    return 0


def _watch(connection: sqlite3.Connection, _record: object) -> None:
    connection.set_progress_handler(_count, GRAIN)


def _tell(file: Path) -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage tells the peak of the parent, if larger
    memory = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    told = {
        "instructions": Work.instructions,
        "most": Work.most,
        "transactions": Work.transactions,
        "memory": memory,
        "stack": getattr(Work, "stack", None),
    }
    file.write_text(json.dumps(told))


if __name__ == "__main__":
    atexit.register(_tell, Path(sys.argv[1]))
    sys.argv[:2] = ["registry"]
    event.listen(Pool, "connect", _watch)
    engine.WriteLock = CountedLock  # type: ignore[attr-defined]
    main()
