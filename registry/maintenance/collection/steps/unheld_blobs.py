"""*Unheld blobs*: bytes that no repository has go when nothing can bring them back (step 1 of proposal 0013).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs
from registry.database.collection import claims, doomed
from registry.maintenance.collection.context import PAGE
from registry.maintenance.collection.finding import Kept, Kind, Removed, Waiting
from registry.maintenance.collection.steps.batch_deletion import BatchDeletion
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.collection.doomed import BlobRow
    from registry.database.transaction import Transaction
    from registry.maintenance.collection.context import Context

REASON = "no repository has it"


class UnheldBlobs:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends
        self._deletion = BatchDeletion(self._backends, context.registry.blob_deletion)
        self._wait = max(self._backends.policy.grace, context.redirect_expiry)

    def run(self) -> None:
        """Raises StorageError, DatabaseError, Stopped: what is left is there for the next run."""
        after = -1
        while True:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                page = doomed.blobs(connection, after=after, count=PAGE).get()
            self._go_through(page)
            if len(page) < PAGE:
                return
            after = page[-1].blob_id

    # ----

    def _go_through(self, page: Sequence[BlobRow]) -> None:
        stale = [row.blob_id for row in page if row.is_held]
        if stale and not self._context.dry:
            with self._backends.database.transaction(durable=False) as connection:
                doomed.forget(connection, doomed.UNHELD, stale)
        due = []
        for row in page:
            if row.is_held:
                continue
            waiting = self._waiting(row)
            if waiting is not None:
                self._context.ledger.wait(waiting)
            else:
                due.append(row)
        if due and self._context.unsafe:
            for _ in due:
                self._context.ledger.keep(Kept.SHARED)
        elif due:
            self._free(due)

    def _waiting(self, row: BlobRow) -> Waiting | None:
        """Why it does not go yet; None if it does."""
        now, window = self._context.now, self._backends.policy.undelete_window
        until = [
            (now + self._wait - row.age, REASON),
            (now + row.lease_left, "a client was told that it is here"),
            (row.removed_at + window if row.removed_at else 0.0, "what was deleted can be restored"),
        ]
        last, reason = max(until)
        return Waiting(Kind.BLOB, reason, last, row.digest, bytes=row.size) if last > now else None

    def _free(self, due: Sequence[BlobRow]) -> None:
        """Delete the bytes where they are ours; bury what has none."""
        keys = {self._backends.layout.blob("", Digest(row.digest)): row for row in due}
        with self._backends.database.autocommit() as connection:
            current = {
                found.key: found for found in claims.current(connection, list(keys), store=self._backends.driver.name)
            }
            located = claims.located(connection, [row.blob_id for row in due])
        nowhere = [row for row in due if row.blob_id not in located and self._is_nowhere(row)]
        if self._context.dry:
            for key, row in keys.items():
                if key in current:
                    self._note(row.digest, current[key].size)
            return
        if nowhere:
            self._bury(nowhere)
        for _ in (
            {row.blob_id for row in due}
            - {found.blob_id for found in current.values()}
            - {row.blob_id for row in nowhere}
        ):
            self._context.ledger.keep(Kept.FOREIGN)
        if current:
            self._delete([row for key, row in keys.items() if key in current])

    def _delete(self, due: Sequence[BlobRow]) -> None:
        self._context.budget.take(len(due))
        with self._backends.database.transaction() as connection:
            again = self._again(connection, due)
            batch = self._deletion.claim(
                connection, [self._backends.layout.blob("", Digest(row.digest)) for row in again]
            )
        deleted = self._deletion.delete(batch)
        gone = {row.blob_id: row.size for row in deleted.gone}
        for row in again:
            if row.blob_id in gone:
                self._note(row.digest, gone[row.blob_id])
        for problem in deleted.problems:
            self._context.ledger.trouble(problem)

    def _again(self, connection: Transaction, due: Sequence[BlobRow]) -> list[BlobRow]:
        """Those that still go. They are locked: no publisher joins one, and no client is told of one, meanwhile."""
        blobs.lock_all(connection, sorted(row.digest for row in due)).get()
        again = doomed.blobs_again(connection, [row.blob_id for row in due]).get()
        return [row for row in again if not row.is_held and self._waiting(row) is None]

    def _is_nowhere(self, row: BlobRow) -> bool:
        """Whether storage does not have it either. If it has, that is noted, and a later run deletes it."""
        if self._backends.layout.per_repository:
            return True
        key = self._backends.layout.blob("", Digest(row.digest))
        try:
            stat = self._backends.driver.stat(key)
        except PathNotFound:
            return True
        if not self._context.dry:
            with self._backends.database.transaction() as connection:
                blob_locations.adopt(
                    connection,
                    row.blob_id,
                    store=self._backends.driver.name,
                    key=key,
                    size=stat.size,
                    etag=stat.etag,
                )
        return False

    def _bury(self, rows: Sequence[BlobRow]) -> None:
        """Make tombstones of rows about bytes that are nowhere: what a deletion leaves too."""
        with self._backends.database.transaction() as connection:
            again = self._again(connection, rows)
            claims.bury(connection, [row.blob_id for row in again])

    def _note(self, digest: str, size: int) -> None:
        self._context.ledger.remove(Removed(Kind.BLOB, REASON, digest, bytes=size, objects=1))
