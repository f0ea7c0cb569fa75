"""Write lock: one writer at a time, across threads and processes, in the order of arrival.

Tests: ``tests/database/sqlite/test_group_commit.py``.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING

import structlog

from registry.config.settings import DATABASE_DIRECTORY
from registry.database.errors import DatabaseBusy

if TYPE_CHECKING:
    from pathlib import Path


log = structlog.get_logger(__name__)


PAUSES = (0.0, *[0.0001] * 10, *[0.0003] * 10)
"""Seconds between the looks at a lock that another process has, before it is waited for."""


class WriteLock:
    """The turn to write to a SQLite file. SQLite itself polls, which is slow and unfair.

    The lock file is advisory: other programs that write are still kept apart by SQLite's own locks. A killed holder
    lets go; one that hangs keeps the lock, and is waited for no longer than ``seconds``.
    """

    def __init__(self, database: Path, seconds: float) -> None:
        if not database.parent.is_dir():
            database.parent.mkdir(parents=True, exist_ok=True)
            if database.parent.name != DATABASE_DIRECTORY:  # which an operator did not name
                log.info("a directory was made for the database", path=str(database.parent))
        self._seconds = seconds
        self._threads = threading.Lock()
        self._file = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._queued: _Queued | None = None
        """Stands in the queue of the kernel, also when the thread that sent it there has given up."""

    def acquire(self) -> None:
        """Wait for the turn. Raises DatabaseBusy."""
        if not self._threads.acquire(timeout=self._seconds):
            raise DatabaseBusy(f"other threads wrote to the database for {self._seconds:g} seconds")
        try:
            self._lock()
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        """End the turn, in any thread of this process."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def close(self) -> None:
        """Free the descriptor; a thread that still stands in the queue does it when its turn has come."""
        if self._queued is None or self._queued.leave():
            os.close(self._file)

    def _lock(self) -> None:
        """``flock`` knows no deadline, so a thread that can be left behind waits where it has to be waited."""
        if self._queued is None or self._queued.is_over():
            self._queued = None
            if self._is_soon_free():
                return
            self._queued = _Queued(self._file)
        if not self._queued.wait(self._seconds):
            raise DatabaseBusy(f"another process has had the database locked for {self._seconds:g} seconds")
        self._queued = None

    def _is_soon_free(self) -> bool:
        """Whether the lock was got within the time that a transaction takes: a thread costs more than a few looks."""
        for pause in PAUSES:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(pause)
            else:
                return True
        return False


class _Queued(threading.Thread):
    """Waits for the lock of a file, and gives it back at once where its process does not want it any more."""

    def __init__(self, file: int) -> None:
        super().__init__(name="write-lock", daemon=True)
        self._file = file
        self._ended = threading.Event()
        self._error: OSError | None = None
        self._state = threading.Lock()
        self._wanted = True
        self._closed = False
        self.start()

    def run(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        with self._state:
            self._ended.set()
            if not self._wanted and self._error is None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            if self._closed:
                os.close(self._file)

    def is_over(self) -> bool:
        """Whether the turn has come and was given back; else it is wanted from now on."""
        with self._state:
            self._wanted = not self._ended.is_set()
            return not self._wanted

    def wait(self, seconds: float) -> bool:
        """Whether the lock was got in time. Raises OSError."""
        self._ended.wait(seconds)
        with self._state:
            self._wanted = self._ended.is_set()
        if self._error is not None:
            raise self._error
        return self._wanted

    def leave(self) -> bool:
        """Whether the file is not used any more; where it is, it is closed later."""
        with self._state:
            self._closed = True
            return self._ended.is_set()
