"""*Sightings*: what is out of use is noted, with the time, so that it can go once it was for long enough (step 5).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from registry.database import blobs, repositories
from registry.database.collection import doomed
from registry.maintenance.collection.context import PAGE, SCANNED
from registry.maintenance.collection.finding import Kept, Kind, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.collection.doomed import FoundRow, UnheldRow
    from registry.maintenance.collection.context import Context

T = TypeVar("T")

REASON = "it is out of use since this run, as far as is known"


class Sightings:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends

    def run(self) -> None:
        """Raises DatabaseError, Stopped: what is left is there for the next run."""
        self._members()
        self._blobs()

    # ----

    def _members(self) -> None:
        place: tuple[int, int] | None = doomed.START
        while place is not None:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                found, place = doomed.unused(connection, after=place, count=SCANNED)
            for repository_id, rows in groupby(found, lambda row: row.repository_id):
                self._doom(repository_id, list(rows))

    def _doom(self, repository_id: int, rows: Sequence[FoundRow]) -> None:
        with self._backends.database.autocommit() as connection:
            repository = repositories.get(connection, repository_id).get()
        if repository is None:
            return
        span = self._context.span_of(repository.name)
        for several in _pages(rows):
            if not self._context.dry:
                with self._backends.database.transaction(durable=False) as connection:
                    repositories.lock(connection, repository_id)
                    doomed.doom(connection, repository_id, [row.blob_id for row in several])
            for row in several:
                if row.is_manifest and span.after is None:
                    self._context.ledger.keep(Kept.MIRRORED if span.is_by_pulls else Kept.UNTAGGED)
                    continue
                after = span.after if row.is_manifest else self._backends.policy.grace
                self._tell(self._kind(row), after or 0.0, row, repository.name)

    def _kind(self, row: FoundRow) -> Kind:
        if row.is_manifest:
            return Kind.MANIFEST
        return Kind.BLOB if self._backends.layout.per_repository else Kind.MEMBERSHIP

    def _blobs(self) -> None:
        after: int | None = -1
        wait = max(self._backends.policy.grace, self._context.redirect_expiry)
        while after is not None:
            self._context.budget.look()
            with self._backends.database.autocommit() as connection:
                found, after = doomed.unheld(connection, after=after, count=SCANNED)
            for several in _pages(found):
                if not self._context.dry:
                    with self._backends.database.transaction(durable=False) as connection:
                        blobs.lock_all(connection, sorted(row.digest for row in several)).get()
                        doomed.doom_unheld(connection, [row.blob_id for row in several])
                for row in several:
                    self._tell(Kind.BLOB, wait, row, None)

    def _tell(self, kind: Kind, wait: float, row: FoundRow | UnheldRow, repository: str | None) -> None:
        until = self._context.now + wait
        self._context.ledger.wait(Waiting(kind, REASON, until, row.digest, repository, row.size))


def _pages(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    return (rows[start : start + PAGE] for start in range(0, len(rows), PAGE))
