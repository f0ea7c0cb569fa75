"""*Untagged manifests*: those that nothing needs go into the trash, with all that only they need (step 4).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.collection import doomed
from registry.maintenance.collection.finding import Kind, Removed
from registry.maintenance.collection.steps import repository_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.collection.closures import ClosureRow
    from registry.database.collection.doomed import MemberRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.maintenance.collection.context import Context

ACTOR = "gc"
"""The actor of what a collection deletes."""
REASON = "untagged"
CAUSE = "gc.untagged_after"


class UntaggedManifests:
    """For one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends
        self._deletion = context.registry.manifests.deletion
        self._gone: tuple[int, set[str]] = (0, set())
        """What a dry run has counted as gone, of the repository that it is at."""

    def remove(self, due: Sequence[MemberRow], repository: RepositoryRow) -> None:
        """Each is a batch of its own. Raises StorageError, DatabaseError, Unavailable, Stopped."""
        for row in due:
            for digest in self._list(row, repository) if self._context.dry else self._delete(row, repository):
                self._context.ledger.remove(Removed(Kind.MANIFEST, REASON, digest, repository=repository.name))

    def _list(self, row: MemberRow, repository: RepositoryRow) -> list[str]:
        if self._gone[0] != repository.id:
            self._gone = repository.id, set()
        gone = self._gone[1]
        if row.digest in gone:
            return []
        with self._backends.database.snapshot() as connection:
            closure = self._deletion.closure(connection, repository, row.digest, self._may_go, gone=gone)
        found = [each.digest for each in closure if each.digest not in gone]
        gone.update(found)
        return found

    def _delete(self, row: MemberRow, repository: RepositoryRow) -> Iterator[str]:
        def is_due(connection: Transaction, locked: RepositoryRow) -> bool:
            state = repository_state.read(connection, self._context, locked)
            again = doomed.members_again(connection, locked.id, [row.blob_id]).get()
            return any(
                now.is_manifest and not now.is_used and now.age >= self._after and not state.keeps(now.age)
                for now in again
            )

        def may_go_on(connection: Transaction, locked: RepositoryRow) -> bool:
            """What the manifest listed has been out of use for as long as that, whose deletion is written down."""
            return repository_state.read(connection, self._context, locked).keeps(row.age) is None

        self._context.budget.take(1)
        for digests in self._deletion.collect(
            repository, row.digest, actor=ACTOR, cause=CAUSE, may_go=self._may_go, is_due=is_due, may_go_on=may_go_on
        ):
            yield from digests
            self._context.budget.take(1)

    @property
    def _after(self) -> float:
        return self._context.untagged_after or 0.0

    def _may_go(self, row: ClosureRow) -> bool:
        return row.lease_left <= 0 and row.idle >= self._after
