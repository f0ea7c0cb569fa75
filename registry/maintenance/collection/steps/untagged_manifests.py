"""*Untagged manifests*: those that nothing needs go into the trash, with all that only they need (step 4).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.collection import doomed
from registry.maintenance.collection.finding import Kind, Removed
from registry.maintenance.collection.steps import repository_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from registry.database.collection.closures import ClosureRow
    from registry.database.collection.doomed import MemberRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.maintenance.collection.context import Context
    from registry.maintenance.collection.steps.repository_state import RepositoryState

ACTOR = "gc"
"""The actor of what a collection deletes."""
REASON = "untagged"
UNUSED = "unused"
"""Why those of a mirror go."""


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
        reason = UNUSED if self._context.span_of(repository.name).is_by_pulls else REASON
        for row in due:
            for digest in self._list(row, repository) if self._context.dry else self._delete(row, repository):
                self._context.ledger.remove(Removed(Kind.MANIFEST, reason, digest, repository=repository.name))

    def left(self, row: MemberRow, state: RepositoryState) -> float:
        """Seconds until a manifest has been out of use for as long as it has to be; not positive if it has."""
        span = self._context.span_of(row.repository)
        after = span.after or 0.0
        if not span.is_by_pulls:
            return after - min(row.age, row.idle)
        return max(after - min(row.idle, state.pulls_known), self._backends.policy.grace - row.age)

    def _list(self, row: MemberRow, repository: RepositoryRow) -> list[str]:
        if self._gone[0] != repository.id:
            self._gone = repository.id, set()
        gone = self._gone[1]
        if row.digest in gone:
            return []
        with self._backends.database.snapshot() as connection:
            closure = self._deletion.closure(connection, repository, row.digest, self._may_go(repository), gone=gone)
        found = [each.digest for each in closure if each.digest not in gone]
        gone.update(found)
        return found

    def _delete(self, row: MemberRow, repository: RepositoryRow) -> Iterator[str]:
        def is_due(connection: Transaction, locked: RepositoryRow) -> bool:
            state = repository_state.read(connection, self._context, locked)
            again = doomed.members_again(connection, locked.id, [row.blob_id]).get()
            return any(
                now.is_manifest and not now.is_used and self.left(now, state) <= 0 and not state.keeps(now.age)
                for now in again
            )

        def may_go_on(connection: Transaction, locked: RepositoryRow) -> bool:
            """What the manifest listed has been out of use for as long as that, whose deletion is written down."""
            return repository_state.read(connection, self._context, locked).keeps(row.age) is None

        self._context.budget.take(1)
        for digests in self._deletion.collect(
            repository,
            row.digest,
            actor=ACTOR,
            cause=self._context.span_of(repository.name).key,
            may_go=self._may_go(repository),
            is_due=is_due,
            may_go_on=may_go_on,
        ):
            yield from digests
            self._context.budget.take(1)

    def _may_go(self, repository: RepositoryRow) -> Callable[[ClosureRow], bool]:
        """Tells whether what only a manifest needs may go with it."""
        after = self._context.span_of(repository.name).after or 0.0
        return lambda row: row.lease_left <= 0 and row.idle >= after
