"""*Unused members*: what no manifest of its repository names leaves it; untagged manifests go into the trash.

Steps 2 and 4 of proposal 0013. A member of a repository that has its own blobs is a file, which goes with it.

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blob_locations, blobs, memberships, repositories
from registry.database.collection import doomed, orphans
from registry.images.trash.trash_files import TrashFiles
from registry.maintenance.collection.context import PAGE
from registry.maintenance.collection.finding import Kept, Kind, Removed, Waiting
from registry.maintenance.collection.steps import repository_state
from registry.maintenance.collection.steps.batch_deletion import BatchDeletion
from registry.maintenance.collection.steps.untagged_manifests import UntaggedManifests
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.collection.doomed import MemberRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.maintenance.collection.context import Context
    from registry.maintenance.collection.steps.batch_deletion import Batch
    from registry.maintenance.collection.steps.repository_state import RepositoryState
    from registry.storage.driver import LinkedStat

REASON = "no manifest of the repository names it"
LEASED = "a client was told that it is here"
TOGETHER = 20
"""Members that one transaction ends, at most: pushes wait for it, and each member costs it several statements."""


class _Going(NamedTuple):
    """A member that goes."""

    row: MemberRow
    key: str
    """The key of its file, where each repository has its own."""
    file: LinkedStat | None
    """Its file, as it was before; None for none."""
    is_kept: bool
    """Its bytes stay in the trash."""


class UnusedMembers:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends
        self._deletion = BatchDeletion(self._backends, context.registry.blob_deletion)
        self._trash_files = TrashFiles(self._backends)
        self._untagged = UntaggedManifests(context)
        self._own_files = self._backends.layout.per_repository

    def run(self) -> None:
        """Raises StorageError, DatabaseError, Stopped: what is left is there for the next run."""
        after = doomed.START
        while True:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                page = doomed.members(connection, after=after, count=PAGE).get()
            for repository_id, rows in groupby(page, lambda row: row.repository_id):
                self._go_through(repository_id, list(rows))
            if len(page) < PAGE:
                return
            after = page[-1].place

    # ----

    def _go_through(self, repository_id: int, rows: Sequence[MemberRow]) -> None:
        """Sort the rows of one repository, and do what is due."""
        stale = [row.blob_id for row in rows if row.is_used]
        if stale and not self._context.dry:
            with self._backends.database.transaction(durable=False) as connection:
                doomed.forget(connection, repository_id, stale)
        with self._backends.database.autocommit() as connection:
            repository = repositories.get(connection, repository_id).get()
            if repository is None:
                return
            state = repository_state.read(connection, self._context, repository)
        due = [row for row in rows if not row.is_used and self._is_due(row, state)]
        try:
            members = [row for row in due if not row.is_manifest]
            for start in range(0, len(members), TOGETHER):
                self._end(members[start : start + TOGETHER], repository)
            self._untagged.remove([row for row in due if row.is_manifest], repository)
        except Unavailable as error:  # it was removed, or is being read again
            self._context.ledger.trouble(f"{repository.name}: {error}")

    def _is_due(self, row: MemberRow, state: RepositoryState) -> bool:
        """Whether it goes now; what stays is told of."""
        ledger = self._context.ledger
        span = self._context.span_of(row.repository)
        if row.is_manifest and span.after is None:
            ledger.keep(Kept.MIRRORED if span.is_by_pulls else Kept.UNTAGGED)
            return False
        kept = self._kept(row, state)
        if kept is not None:
            ledger.keep(kept)
            return False
        waiting = self._waiting(row, state)
        if waiting is not None:
            ledger.wait(waiting)
        return waiting is None

    def _kept(self, row: MemberRow, state: RepositoryState) -> Kept | None:
        """Why it stays whatever the times are; None if these decide."""
        if row.is_found and not row.is_manifest and not self._context.with_found:
            return Kept.FOUND
        return state.keeps(row.age)

    def _waiting(self, row: MemberRow, state: RepositoryState) -> Waiting | None:
        """Why it does not go yet; None if it does."""
        now = self._context.now
        if row.is_manifest:
            left, key = self._untagged.left(row, state), self._context.span_of(row.repository).key
            until = [(now + left, key), (now + row.lease_left, LEASED)]
        else:
            until = [(now + self._backends.policy.grace - row.age, REASON), (now + row.lease_left, LEASED)]
        last, reason = max(until)
        if last <= now:
            return None
        kind = Kind.MANIFEST if row.is_manifest else self._kind
        return Waiting(kind, reason, last, row.digest, row.repository, row.size)

    @property
    def _kind(self) -> Kind:
        return Kind.BLOB if self._own_files else Kind.MEMBERSHIP

    def _end(self, due: Sequence[MemberRow], repository: RepositoryRow) -> None:
        """End memberships, with the files of those that have their own."""
        going = {row.blob_id: self._look(row, repository) for row in due}
        if self._context.dry:
            for each in going.values():
                self._note(each)
            return
        self._context.budget.take(len(due))
        for each in going.values():
            if each.is_kept:
                self._trash_files.keep(repository, Digest(each.row.digest))
        with self._backends.database.transaction() as connection:
            ended, batch = self._leave(connection, repository, going)
        gone = {row.key for row in self._deletion.delete(batch).gone} if batch is not None else set()
        for each in ended:
            if not self._own_files or each.key in gone or each.file is None:
                self._note(each)
            else:
                self._context.ledger.trouble(f"{each.key}: it is deleted later, as a deletion that was left over")

    def _leave(
        self, connection: Transaction, repository: RepositoryRow, going: dict[int, _Going]
    ) -> tuple[list[_Going], Batch | None]:
        """End what is still to be ended, and claim its files. What was looked at is looked at again under locks."""
        locked = self._context.registry.repositories.lock(connection, repository)
        state = repository_state.read(connection, self._context, locked)
        blobs.lock_all(connection, sorted(each.row.digest for each in going.values())).get()
        again = doomed.members_again(connection, repository.id, list(going)).get()
        ended = [
            going[row.blob_id]
            for row in again
            if not (row.is_used or row.is_manifest or self._kept(row, state) or self._waiting(row, state))
            and (going[row.blob_id].is_kept or not self._is_wanted_back(connection, repository, row.digest))
        ]
        if not ended:
            return [], None
        ids = [each.row.blob_id for each in ended]
        memberships.remove_all(connection, repository.id, ids)
        repositories.raise_version(connection, repository.id)
        grace, expiry = self._backends.policy.grace, self._context.redirect_expiry
        doomed.doom_unheld(connection, ids, age=max(grace, expiry) - expiry)
        return ended, self._claim_files(connection, ended) if self._own_files else None

    def _claim_files(self, connection: Transaction, ended: Sequence[_Going]) -> Batch:
        store, keys = self._backends.driver.name, [each.key for each in ended]
        known = orphans.known_keys(connection, keys, store=store).get()
        for each in ended:
            if each.file is not None and each.key not in known:  # another tool's
                size = each.file.stat.size
                blob_locations.adopt(connection, each.row.blob_id, store=store, key=each.key, size=size, etag="")
        return self._deletion.claim(connection, keys)

    def _look(self, row: MemberRow, repository: RepositoryRow) -> _Going:
        key = self._backends.layout.blob(repository.name, Digest(row.digest))
        if not self._own_files:
            return _Going(row, key, None, is_kept=False)
        file = self._context.names.look(key)
        with self._backends.database.autocommit() as connection:
            return _Going(row, key, file, is_kept=self._is_wanted_back(connection, repository, row.digest))

    def _is_wanted_back(self, connection: Transaction, repository: RepositoryRow, digest: str) -> bool:
        """Whether a manifest of the trash needs the file."""
        return self._own_files and self._trash_files.is_wanted(connection, repository, digest)

    def _note(self, each: _Going) -> None:
        row = each.row
        if not self._own_files:
            self._context.ledger.remove(Removed(self._kind, REASON, row.digest, repository=row.repository))
            return
        file = each.file
        size = 0 if file is None or each.is_kept else self._context.names.free(file)
        objects = int(file is not None and not each.is_kept)
        self._context.ledger.remove(
            Removed(self._kind, REASON, row.digest, repository=row.repository, bytes=size, objects=objects)
        )
