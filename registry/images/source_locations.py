"""Source locations: what migrations noted on storage, taken into this database before it is relied on (proposal 0005).

Where each repository has its own blobs no store is migrated, and none of this asks anything.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from registry.database import migration_queries, stores
from registry.database.migration_queries import Copied, SourceObject
from registry.images.migration_journal.documents import Phase
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.images.backends import Backends
    from registry.images.migration_journal.documents import MigrationState, ShardEntry
    from registry.images.write_gate import WriteGate

ATTEMPTS = 20
"""How often the state of a migration may change while it is read."""
SWAPPED = 10_000
"""Locations that are made current in one transaction."""

log = structlog.get_logger(__name__)


class SourceLocations:
    """Any thread, any process; taking the same twice is harmless."""

    def __init__(self, backends: Backends, write_gate: WriteGate) -> None:
        self._backends = backends
        self._gate = write_gate
        self._journal = MigrationJournalReader(backends.driver)
        self._lock = threading.Lock()

    def ensure(self, *, again: bool = False) -> None:
        """Have in the database what the journal says: the locations of blobs, and whether changes may commit.

        Once for each process, at its first touch of storage: one LIST if there was no migration. With ``again``, or
        if the database turned out to be another, anew. Raises StorageError, DatabaseError, with the database as it
        was or ahead of what is served from it.
        """
        if self._backends.layout.per_repository or (self._gate.is_known and not again):
            return
        with self._lock:
            if self._gate.is_known and not again:
                return
            for _ in range(ATTEMPTS):
                if self._take(again=again):
                    self._gate.is_known = True
                    return
        raise Unavailable("a migration changes faster than it can be read", headers={"Retry-After": "1"})

    def ensure_row(self) -> None:
        """As ``ensure``, also if the database was lost since this process has looked. Asks the database."""
        if self._backends.layout.per_repository:
            return
        if self._gate.is_known and self._gate.row() is None:
            self._gate.is_known = False
        self.ensure()

    def _take(self, *, again: bool) -> bool:
        """False if another process has changed the row meanwhile, so that what was read may be old."""
        before = self._gate.row()
        newest = self._journal.newest()
        row = self._gate.row_of(None if newest is None else newest[0])
        if before is not None and before._replace(looked_at=row.looked_at) == row and not again:
            return True
        if newest is not None:
            self._load(newest[0])
        with self._backends.database.exclusive() as connection:
            if stores.find(connection, row.name).get() != before:
                return False
            stores.put(connection, row)
        return True

    def _load(self, newest: MigrationState) -> None:
        """Put the locations that the shards of all migrations name, the oldest first."""
        blobs, database, store = 0, self._backends.database, self._backends.driver.name
        for state, _ in self._journal.states():
            if state.state is Phase.FINALIZED:
                continue
            for _, lines in self._journal.shards(state.id):
                self._put(state.id, lines)
                blobs += len(lines)
        after: int | None = 0
        while newest.state is Phase.ROLLED_BACK and after is not None:
            with database.transaction() as connection:
                after = migration_queries.swap(connection, newest.id, store=store, after=after, count=SWAPPED)
        log.info("the locations of the source's blobs were read from storage", migration=newest.id, blobs=blobs)

    def _put(self, migration: str, lines: Sequence[ShardEntry]) -> None:
        store, now, layout = self._backends.driver.name, self._backends.clock(), self._backends.layout
        sources = [
            SourceObject(line.digest, line.size, at.key, at.etag, at.verified)
            for line in lines
            for at in line.locations
        ]
        copies = [
            Copied(line.digest, line.size, layout.blob("", Digest(line.digest)), line.copy)
            for line in lines
            if line.copy is not None
        ]
        with self._backends.database.transaction() as connection:
            refused = migration_queries.put(connection, migration, sources, store=store, now=now)
            migration_queries.set_copied(connection, copies, store=store, now=now)
        for digest in refused:
            log.warning("locations of a blob were left out: it is known with another size", digest=digest)
