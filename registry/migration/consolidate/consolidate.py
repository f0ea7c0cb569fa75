"""Consolidation: each adopted blob becomes an object of ours, copied inside the store and read back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from registry.database import blob_locations, migration_queries
from registry.database.errors import DatabaseError
from registry.images.migration_journal.documents import Phase, shard_of
from registry.migration.consolidate.copier import Copier
from registry.migration.consolidate.lost_blobs import placed, unreadable
from registry.migration.progress import Meter
from registry.migration.report import Refused, Report, Unfinished
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.images.migration_journal.documents import ShardEntry
    from registry.migration.consolidate.copier import CopiedBlob
    from registry.migration.context import Context
    from registry.migration.report import Problem

MOST_BLOBS: Final = 500
MOST_BYTES: Final = 1 << 30
"""Blobs, and their bytes, that one transaction notes; after a kill these may be copied again."""
ROUNDS: Final = 3
"""How often blobs that clients deleted and pushed again meanwhile are copied once more."""
_PAGE: Final = 1000
_ALLOWED: Final = frozenset({Phase.ADOPTED, Phase.CONSOLIDATED})


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What is to be copied."""

    blobs: int
    bytes: int


def plan_consolidation(context: Context) -> Consolidation:
    """The blobs that have no verified object of ours yet; nothing is written."""
    backends = context.registry.backends
    with backends.database.snapshot() as connection:
        return Consolidation(*migration_queries.uncopied_total(connection, store=backends.driver.name).get())


def consolidate(context: Context) -> Report:
    """Copy what is not copied, and note that on storage. Run again, after a kill too, it goes on from there.

    Source objects stay. A blob without a location that has the right bytes is a problem. Raises Refused in a state that
    has nothing to copy, Unfinished if clients delete faster than blobs are copied; StorageError, DatabaseError.
    """
    return _Consolidating(context).run()


def copy_uncopied(context: Context) -> Report:
    """Copy what is not copied, in any state: ``consolidate`` without its end. Raises as it does."""
    return _Consolidating(context).copy()


class _Consolidating:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends
        self._journal = context.journal
        self._copying = Copier(context.registry)
        self._report = Report()
        self._problems: dict[str, list[Problem]] = {}
        """The problems of the shards that were written, by shard."""

    def run(self) -> Report:
        state = self._journal.state
        if state.state not in _ALLOWED:
            raise Refused(f"migration {state.id} is {state.state}: nothing can be copied before all is adopted")
        self.copy()
        for shard in self._journal.shard_names():
            if shard not in self._problems:
                self._end_shard(shard)
        self._report.problems = sorted(problem for found in self._problems.values() for problem in found)
        if self._report.problems:
            self._journal.write_problems({*self._journal.problems(), *self._report.problems})
        if state.state is not Phase.CONSOLIDATED:
            state = self._journal.move(Phase.CONSOLIDATED, read_only=state.read_only)
            self._context.registry.write_gate.note(state)
        self._report.state = state.state
        return self._report

    def copy(self) -> Report:
        """Copy until nothing is left. Raises Unfinished if clients are faster."""
        self._report.counts = {"copied": 0, "copied_bytes": 0}
        for _ in range(ROUNDS):
            plan = plan_consolidation(self._context)
            if not plan.blobs:
                return self._report
            self._copy_all(plan)
        if plan_consolidation(self._context).blobs:
            raise Unfinished("blobs are deleted and pushed again while they are copied; run it again")
        return self._report

    def _copy_all(self, plan: Consolidation) -> None:
        meter = Meter("copying", plan.blobs, plan.bytes, self._context.on_progress)
        made = self._context.workers.each(self._copying.copy, self._uncopied())
        for shard, copies in groupby(made, key=lambda copy: shard_of(copy.digest)):
            self._commit_all(copies, meter)
            self._end_shard(shard)

    def _uncopied(self) -> Iterator[BlobRow]:
        after = ""
        while True:
            with self._backends.database.autocommit() as connection:
                page = migration_queries.uncopied(
                    connection, store=self._backends.driver.name, after=after, count=_PAGE
                ).get()
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].digest

    def _commit_all(self, copies: Iterator[CopiedBlob], meter: Meter) -> None:
        """Note copies in batches, also those that were made before an error."""
        batch: list[CopiedBlob] = []
        try:
            for copy in copies:
                batch.append(copy)
                meter.add(1, copy.size)
                if len(batch) >= MOST_BLOBS or sum(made.size for made in batch) >= MOST_BYTES:
                    self._commit(batch)
                    batch = []
        except (StorageError, KeyboardInterrupt):
            with suppress(DatabaseError):
                self._commit(batch)
            raise
        self._commit(batch)

    def _commit(self, batch: Sequence[CopiedBlob]) -> None:
        if not batch:
            return
        self._report.counts["copied"] += self._copying.commit(batch)
        self._report.counts["copied_bytes"] += sum(copy.size for copy in batch if copy.copied is not None)

    # ---- the journal

    def _end_shard(self, shard: str) -> None:
        """Write what the database knows about the locations of a shard's blobs."""
        known = placed(self._context.registry, shard)
        lines = [self._line(line, known.get(line.digest, [])) for line in self._journal.shard(shard)]
        self._journal.write_shard(shard, lines)
        self._problems[shard] = unreadable(self._context.registry, known)

    def _line(self, line: ShardEntry, rows: Sequence[LocationRow]) -> ShardEntry:
        hashed = {(row.key, row.etag) for row in rows if row.verified_at is not None}
        own = self._backends.layout.blob("", line.digest)
        copies = [row.etag for row in rows if row.key == own and row.state == blob_locations.CURRENT]
        return line._replace(
            locations=tuple(
                location._replace(verified=(location.key, location.etag) in hashed) for location in line.locations
            ),
            copy=next((etag for etag in copies if (own, etag) in hashed), None),
        )
