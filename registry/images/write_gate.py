"""What migrations have left on storage, taken into this database before anything is said or written (proposal 0005).

Where each repository has its own blobs there is nothing of that kind, and none of this asks anything.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from registry.database import migration_queries as original_rows
from registry.database import stores as store_rows
from registry.database.migration_queries import Copied, Original
from registry.database.stores import OPEN, READ_ONLY, StoreRow
from registry.database.transaction import Later
from registry.images.migration_journal.documents import Phase
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.oci.digest import Digest
from registry.oci.errors import NameInvalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.migration_journal.documents import MigrationState, ShardEntry

ATTEMPTS = 20
"""How often the state of a migration may change while it is read."""
SWAPPED = 10_000
"""WriteGate that are made current in one transaction."""
READ_ONLY_SECONDS = "30"
"""When a client may try again whether changes are taken by now."""

UNLOOKED = "storage is looked at for migrations before anything is written; try again"

log = structlog.get_logger(__name__)


class WriteGate:
    """Any thread, any process; taking the same twice is harmless."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._journal = MigrationJournalReader(backends.driver)
        self._lock = threading.Lock()
        self._known = backends.layout.per_repository
        """This process has looked at storage, and has not met a database that lacks what it found."""

    def ensure(self, *, again: bool = False) -> None:
        """Have in the database what the journal says: the places of blobs, and whether changes may commit.

        Once for each process, at its first touch of storage: one LIST where there was no migration. With ``again``, or
        where the database turned out to be another, anew. Raises StorageError, DatabaseError, with the database as it
        was or ahead of what is served from it.
        """
        if self._backends.layout.per_repository or (self._known and not again):
            return
        with self._lock:
            if self._known and not again:
                return
            for _ in range(ATTEMPTS):
                if self._take(again=again):
                    self._known = True
                    return
        raise Unavailable("a migration changes faster than it can be read", headers={"Retry-After": "1"})

    def ensure_row(self) -> None:
        """As ``ensure``, also where the database was lost since this process has looked. Asks the database."""
        if self._backends.layout.per_repository:
            return
        if self._known and self._row() is None:
            self._known = False
        self.ensure()

    def note(self, state: MigrationState) -> None:
        """Say in the database what ``state``, which storage has by now, says of the store.

        The places are noted by who changed the state. When this returns no transaction goes on that saw it otherwise.
        """
        with self._backends.database.exclusive() as connection:
            store_rows.put(connection, self._row_of(state))

    def require_open_later(self, connection: Transaction, *, looked: bool = True) -> Later[None]:
        """In the transaction of a change: getting it raises Unavailable, with the reason, where none may commit.

        Without ``looked`` not where nobody knows yet: what is begun in this transaction is asked about again.
        """
        if self._backends.layout.per_repository:
            return _NOTHING
        found = store_rows.find(connection, self._backends.driver.name)

        def get() -> None:
            row = found.get()
            if row is not None or looked:
                self._require_open(row)
            else:
                self._known = False

        return Later(get)

    def require_room(self, connection: Transaction, name: str) -> None:
        """In the transaction that makes a repository.

        Raises Unavailable where no change may commit, NameInvalid where its keys would lie in the original's trees.
        """
        if self._backends.layout.per_repository:
            return
        row = self._require_open(store_rows.find(connection, self._backends.driver.name).get())
        for prefix in row.prefixes:
            if name == prefix or name.startswith(f"{prefix}/"):
                message = f"below {prefix} is what another registry left, which is being migrated: choose another name"
                raise NameInvalid(message)

    def is_read_only(self, connection: Transaction) -> bool:
        """Whether no change may commit, or nobody knows yet."""
        if self._backends.layout.per_repository:
            return False
        row = store_rows.find(connection, self._backends.driver.name).get()
        return row is None or row.mode == READ_ONLY

    def prefixes(self) -> tuple[str, ...]:
        """Below which there is no repository of ours."""
        row = None if self._backends.layout.per_repository else self._row()
        return row.prefixes if row is not None else ()

    # ----

    def _require_open(self, row: StoreRow | None) -> StoreRow:
        if row is None:
            self._known = False
            raise Unavailable(UNLOOKED, headers={"Retry-After": "1"})
        if row.mode == READ_ONLY:
            raise Unavailable(row.reason, headers={"Retry-After": READ_ONLY_SECONDS})
        return row

    def _row(self) -> StoreRow | None:
        with self._backends.database.autocommit() as connection:
            return store_rows.find(connection, self._backends.driver.name).get()

    def _row_of(self, state: MigrationState | None) -> StoreRow:
        name, now = self._backends.driver.name, self._backends.clock()
        if state is None:
            return StoreRow(name, None, 0, OPEN, None, (), now)
        shut = state.read_only
        prefixes = tuple(prefix for prefix in state.prefixes if prefix)
        if shut is None:
            return StoreRow(name, state.id, state.revision, OPEN, None, prefixes, now)
        return StoreRow(name, state.id, state.revision, READ_ONLY, shut.reason, prefixes, now)

    def _take(self, *, again: bool) -> bool:
        """False: somebody has changed the row meanwhile, so that what was read may be old."""
        before = self._row()
        newest = self._journal.newest()
        row = self._row_of(None if newest is None else newest[0])
        if before is not None and before._replace(looked_at=row.looked_at) == row and not again:
            return True
        if newest is not None:
            self._load(newest[0])
        with self._backends.database.exclusive() as connection:
            if store_rows.find(connection, row.name).get() != before:
                return False
            store_rows.put(connection, row)
        return True

    def _load(self, newest: MigrationState) -> None:
        """The places that the shards of all migrations name, the oldest first."""
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
                after = original_rows.swap(connection, newest.id, store=store, after=after, count=SWAPPED)
        log.info("the places of another registry's blobs were read from storage", migration=newest.id, blobs=blobs)

    def _put(self, migration: str, lines: Sequence[ShardEntry]) -> None:
        store, now, layout = self._backends.driver.name, self._backends.clock(), self._backends.layout
        originals = [
            Original(line.digest, line.size, at.key, at.signature, at.verified) for line in lines for at in line.places
        ]
        copies = [
            Copied(line.digest, line.size, layout.blob("", Digest(line.digest)), line.copy)
            for line in lines
            if line.copy is not None
        ]
        with self._backends.database.transaction() as connection:
            refused = original_rows.put(connection, migration, originals, store=store, now=now)
            original_rows.set_copied(connection, copies, store=store, now=now)
        for digest in refused:
            log.warning("places of a blob were left out: it is known with another size", digest=digest)


def _nothing() -> None:
    """There is nothing to require."""


_NOTHING: Later[None] = Later(_nothing)
