"""Write transactions of one SQLite file, several of them in one commit.

A commit costs more than what most of our transactions do. Writers take turns on one connection, each but the first in
a savepoint of its own; while others wait, the turn passes on without a commit. All of them return when the last has
committed.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.database.transaction import Transaction
    from registry.database.write_lock import WriteLock

MOST = 32
"""Writers in one commit."""


class _Batch:
    """Writers whose fate is one commit."""

    def __init__(self) -> None:
        self.writers = 0
        self.undone = False
        """The first writer raised, and there was no other yet: nothing is left to commit."""
        self.error: BaseException | None = None
        self.ended = threading.Event()


class GroupCommit:
    """The turn to write. A writer that raises loses its own work only; a commit that fails is an error for all."""

    def __init__(self, lock: WriteLock, transaction: Transaction) -> None:
        """``transaction`` is on a connection that nobody else uses, with no transaction begun."""
        self._lock = lock
        self._transaction = transaction
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._waiting = 0
        self._batch: _Batch | None = None

    @property
    def waiting(self) -> int:
        """Writers that wait for their turn."""
        return self._waiting

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction for the block, committed when this returns. Raises DatabaseUnavailable, the DBAPI's errors."""
        with self._count:
            self._waiting += 1
        with self._turn:
            with self._count:
                self._waiting -= 1
            batch = self._batch or self._begin()
            batch.writers += 1
            try:
                if batch.writers > 1:
                    self._transaction.run("SAVEPOINT writer")
                yield self._transaction
                if batch.writers > 1:
                    self._transaction.run("RELEASE writer")
            except BaseException:
                self._undo(batch)
                raise
            finally:
                self._end_turn(batch)
        batch.ended.wait()
        if batch.error is not None:
            raise DatabaseUnavailable(str(batch.error)) from batch.error

    def _begin(self) -> _Batch:
        self._lock.acquire()
        try:
            self._transaction.run("BEGIN IMMEDIATE")
        except BaseException:
            self._lock.release()
            raise
        self._batch = _Batch()
        return self._batch

    def _undo(self, batch: _Batch) -> None:
        """Undo one writer's work. Where SQLite has undone everything by itself (disk full), nobody's work is left."""
        try:
            if batch.writers == 1:
                batch.undone = True
                self._transaction.run("ROLLBACK")
            else:
                self._transaction.run("ROLLBACK TO writer")
                self._transaction.run("RELEASE writer")
        except Exception as error:  # noqa: BLE001 - whatever the DBAPI raises: the batch is lost
            batch.error = error

    def _end_turn(self, batch: _Batch) -> None:
        """Pass the turn on, or commit when nobody waits for it."""
        with self._count:
            if self._waiting and batch.writers < MOST and batch.error is None and not batch.undone:
                return
        self._batch = None
        try:
            if batch.error is None and not batch.undone:
                self._transaction.run("COMMIT")
        except Exception as error:  # noqa: BLE001 - told to every writer of the batch
            batch.error = error
        finally:
            if batch.error is not None:
                with contextlib.suppress(Exception):
                    self._transaction.run("ROLLBACK")
            self._lock.release()
            batch.ended.set()
