"""*Emptied trash*: what was deleted leaves the trash before its time, and frees what it can (``--empty-trash``).

Where repositories share objects, those that nothing needs any more count as out of use for long enough, so that the
next step deletes them. What has a lease stays until that is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blobs
from registry.database.collection import claims, doomed, purging, trash
from registry.images.trash.trash_emptying import TrashEmptying
from registry.maintenance.collection.finding import Kept, Kind, Removed, Waiting
from registry.maintenance.collection.steps import unheld_blobs
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.collection.trash import ExpiredRow
    from registry.maintenance.collection.context import Context

REASON = "the trash is emptied"
PAGE = 100
"""Manifests that one look finds."""
EVER = float(1 << 62)
"""A moment after every deletion."""


class EmptiedTrash:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context, only: str) -> None:
        """``only`` names the repository, "" for all."""
        self._context = context
        self._only = only
        self._backends = context.registry.backends
        self._emptying = TrashEmptying(self._backends, context.registry.write_gate)
        self._gone: set[tuple[int, str]] = set()
        """The manifests of the trash that a dry run counts as gone, each with its repository."""
        self._ended: set[tuple[int, str]] = set()
        """The members that it counts as ended, likewise."""

    def run(self) -> None:
        """Raises StorageError, DatabaseError, Unavailable, Stopped: what is left is there for the next run."""
        for row in self._rows():
            if row.repository in self._context.unsafe:
                self._context.ledger.keep(Kept.UNKNOWN)
            else:
                self._remove(row)

    def _rows(self) -> Iterator[ExpiredRow]:
        after = trash.FIRST
        while True:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                page = trash.expired(connection, before=EVER, after=after, count=PAGE).get()
            yield from (row for row in page if self._only in {"", row.repository})
            if len(page) < PAGE:
                return
            after = page[-1].place

    def _remove(self, row: ExpiredRow) -> None:
        planned = self._emptying.preview(row, self._gone if self._context.dry else set())
        names = self._context.names
        looked = [found for found in map(names.look, planned.files) if found is not None]
        done = planned
        if not self._context.dry:
            self._context.budget.take(max(1, len(looked)))
            done = self._emptying.remove(row)
            if done.gone:
                return
        size = sum(map(names.free, looked))
        removed = Removed(Kind.TRASH, REASON, row.digest, repository=row.repository, bytes=size, objects=len(looked))
        self._context.ledger.remove(removed)
        if done.leased:
            self._context.ledger.keep(Kept.LEASED)
        if not self._backends.layout.per_repository:
            self._free(row, done.digests)

    def _free(self, row: ExpiredRow, digests: Sequence[str]) -> None:
        """Have the next step delete what nothing needs; a dry run says it here."""
        if self._context.dry:
            self._ended |= {(row.repository_id, digest) for digest in digests}
            for digest in digests:
                self._foresee(digest)
            return
        wait = max(self._backends.policy.grace, self._context.redirect_expiry)
        with self._backends.database.transaction() as connection:
            rows = blobs.lock_all(connection, sorted(digests)).get().values()
            doomed.forget(connection, doomed.UNHELD, [each.id for each in rows])
            doomed.doom_unheld(connection, [each.id for each in rows], age=wait)

    def _foresee(self, digest: str) -> None:
        """Say what the next step would do with a blob, if nothing but what is gone has it."""
        key = self._backends.layout.blob("", Digest(digest))
        with self._backends.database.snapshot() as connection:
            row = blobs.find(connection, digest).get()
            if row is None:
                return
            for holder in purging.holders(connection, row.id, digest).get():
                naming = purging.trash_naming(connection, holder.id, digest).get()
                if holder.is_member and (holder.id, digest) not in self._ended:
                    return
                if not all((holder.id, each) in self._gone for each in naming):
                    return
            found = claims.current(connection, [key], store=self._backends.driver.name)
        if row.lease_left > 0:
            until = self._context.now + row.lease_left
            reason = "a client was told that it is here"
            self._context.ledger.wait(Waiting(Kind.BLOB, reason, until, digest, bytes=row.size))
        elif found and not self._context.unsafe:
            self._context.ledger.remove(Removed(Kind.BLOB, unheld_blobs.REASON, digest, bytes=found[0].size, objects=1))
