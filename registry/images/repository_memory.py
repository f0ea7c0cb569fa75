"""Repository memory: what a process remembers of each repository from one look at it to the next.

All of it may be forgotten: storage and the database say it again, at the price of a look or a fold more.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

REMEMBERED = 100_000
"""Repositories that a process remembers."""


@dataclass(slots=True)
class RepositoryNotes:
    """What is remembered of one repository. Times are monotonic seconds."""

    looked: float | None = None
    """When it was last compared with storage; None if it has to be, whatever its row says."""
    is_absent: bool = False
    """It was not there then; a row that comes later is another process's."""
    missing: tuple[float, float] | None = None
    """Since when manifests that its index names are missing, and when these were last looked for."""
    foreign_etag: str = ""
    """The etag of another registry's index at its key, of which no row was made."""
    met_foreign: float | None = None
    """When a fold last met another registry's index, so that changes wait."""
    newest: int = 0
    """The last number that this process has recorded and not folded: the database has lost it if its row is below."""
    is_surprising: bool = False
    """An index is there, against what the row says: the next fold reads it."""
    is_incomplete: bool = False
    """The release before has folded records, whose times and withheld references are still to be taken from history."""
    untimed: int = 0
    """Entries of its index without times, after these were last looked for in the database."""
    withheld: tuple[float | None, int] = None, 0
    """When what is withheld was last counted, and how many references it may be by now; None for never."""


class RepositoryMemory:
    """One record for each repository, under one lock. Any thread; the repositories used least are forgotten first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: LRUCache[str, RepositoryNotes] = LRUCache(REMEMBERED)

    def of(self, name: str) -> AbstractContextManager[RepositoryNotes]:
        """The notes of a repository, to read and change; no other thread does meanwhile, so nothing may wait here."""
        return _Held(self._lock, self._notes, name)

    def looked(self, name: str) -> float | None:
        """When this process last compared the repository with storage; None for never."""
        with self._lock:
            notes = self._notes.get(name)
        return None if notes is None else notes.looked


class _Held:
    """The notes of a repository while the lock is held; no generator, since each push enters a dozen."""

    __slots__ = ("_lock", "_name", "_notes")

    def __init__(self, lock: threading.Lock, notes: LRUCache[str, RepositoryNotes], name: str) -> None:
        self._lock = lock
        self._notes = notes
        self._name = name

    def __enter__(self) -> RepositoryNotes:
        self._lock.acquire()
        try:
            notes = self._notes.get(self._name)
            if notes is None:
                self._notes[self._name] = notes = RepositoryNotes()
        except BaseException:
            self._lock.release()
            raise
        return notes

    def __exit__(self, *_exc: object) -> None:
        self._lock.release()
