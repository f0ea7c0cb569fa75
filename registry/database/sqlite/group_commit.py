"""Group commit: several write transactions of one SQLite file in one commit.

A commit costs more than what most of our transactions do. Writers take turns on one connection, each but the first in
a savepoint of its own; while more writers wait, the turn passes on without a commit. All of them return when the
last has committed.

A writer of a single statement that finds no other at work needs neither the beginning of a transaction nor its end.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from registry.database.errors import DatabaseBusy, DatabaseUnavailable

if TYPE_CHECKING:
    from registry.database.sqlite.write_lock import WriteLock
    from registry.database.transaction import Transaction

MOST = 32
"""Writers in one commit."""
MOMENT = 0.1
"""Seconds between two looks at whether the turn is free, for a writer whose time is over and that has to take it."""


class _Batch:
    """Writers whose fate is one commit."""

    def __init__(self) -> None:
        self.writers = 0
        self.undone = False
        """The first writer raised, and there was no other yet: nothing is left to commit."""
        self.error: BaseException | None = None
        self.ended: threading.Event | None = None
        """Made when the turn passes on: a writer that commits by itself waits for nothing."""


class GroupCommit:
    """The turn to write. A writer that raises loses its own work only; a commit that fails is an error for all."""

    def __init__(self, lock: WriteLock, transaction: Transaction, seconds: float) -> None:
        """``transaction`` is on a connection of its own, with no transaction begun.

        A writer waits for ``seconds`` at most for its turn, and as long for the commit.
        """
        self._lock = lock
        self._seconds = seconds
        self._transaction = transaction
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._waiting = 0
        self._passed_on = False
        """A batch was left without a commit to a writer that waited then: one of them has to take it up."""
        self._batch: _Batch | None = None
        self._is_single = False
        """The writer that has the turn has no batch: its only statement commits by itself."""

    @property
    def waiting(self) -> int:
        """Writers that wait for their turn."""
        return self._waiting

    def __enter__(self) -> Transaction:
        """A transaction for the block. Raises DatabaseUnavailable, the DBAPI's errors.

        No generator, since each write enters one: the batch is all that a writer remembers, and the turn guards it.
        """
        self._take_turn()
        return self._join()

    def enter_single(self) -> Transaction:
        """As ``__enter__``, for a block that executes one statement at most; ``__exit__`` ends it as any other."""
        self._take_turn()
        if self._batch is not None or self._waiting:
            return self._join()
        try:
            self._lock.acquire()
        except BaseException:
            self._turn.release()
            raise
        self._is_single = True
        return self._transaction

    def _join(self) -> Transaction:
        """Begin a batch, or go on with the one that was passed on. Gives the turn back where that fails."""
        try:
            batch = self._batch or self._begin()
        except BaseException:
            self._turn.release()
            raise
        batch.writers += 1
        if batch.writers > 1:
            try:
                self._transaction.run("SAVEPOINT writer")
            except BaseException:
                self._leave(batch, undo=True)
                raise
        return self._transaction

    def __exit__(self, kind: object, _error: object, _trace: object) -> None:
        """Committed when this returns. Raises as ``__enter__``."""
        if self._is_single:
            self._is_single = False
            try:
                self._lock.release()
            finally:
                self._turn.release()
            return
        batch = self._batch
        assert batch is not None, "a writer has its turn in a batch"  # noqa: S101
        ended = self._leave(batch, undo=kind is not None)
        if kind is not None:
            return
        if ended is not None and not ended.wait(self._seconds):
            raise DatabaseBusy(f"the commit has not ended within {self._seconds:g} seconds; it still may")
        if batch.error is not None:
            raise DatabaseUnavailable(str(batch.error)) from batch.error

    def _leave(self, batch: _Batch, *, undo: bool) -> threading.Event | None:
        """End the turn. Returns what the writer has to wait for; None if the batch has ended."""
        try:
            try:
                if undo:
                    self._undo(batch)
                elif batch.writers > 1:
                    self._release(batch)
            finally:
                ended = self._end_turn(batch)
        finally:
            self._turn.release()
        return ended

    def _release(self, batch: _Batch) -> None:
        try:
            self._transaction.run("RELEASE writer")
        except BaseException:
            self._undo(batch)
            raise

    def _take_turn(self) -> None:
        """Raises DatabaseBusy. A writer that gives up leaves no batch behind that waits for it."""
        with self._count:
            self._waiting += 1
        seconds = self._seconds
        while not self._turn.acquire(timeout=seconds):
            with self._count:
                if not self._passed_on:
                    self._waiting -= 1
                    raise DatabaseBusy(f"other writers had the database for {self._seconds:g} seconds")
            seconds = MOMENT  # the writer before is about to let go
        with self._count:
            self._waiting -= 1
            self._passed_on = False

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
        """Undo one writer's work. If SQLite has undone everything by itself (disk full), no writer's work is left."""
        try:
            if batch.writers == 1:
                batch.undone = True
                self._transaction.run("ROLLBACK")
            else:
                self._transaction.run("ROLLBACK TO writer")
                self._transaction.run("RELEASE writer")
        except Exception as error:  # noqa: BLE001 - whatever the DBAPI raises: the batch is lost
            batch.error = error

    def _end_turn(self, batch: _Batch) -> threading.Event | None:
        """Pass the turn on, or commit if no writer waits for it. Returns as ``_leave``."""
        with self._count:
            self._passed_on = bool(self._waiting) and batch.writers < MOST and batch.error is None and not batch.undone
            if self._passed_on:
                batch.ended = batch.ended or threading.Event()
                return batch.ended
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
            if batch.ended is not None:
                batch.ended.set()
        return None
