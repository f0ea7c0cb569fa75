"""Finalization: source objects whose copies are verified are deleted, and there is no way back any more."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from registry.database import migration_queries
from registry.database.blobs import MISSING
from registry.images.migration_journal.documents import Phase
from registry.images.migration_journal.reader import MIGRATIONS, problems_key, state_key
from registry.migration.consolidate.consolidate import ROUNDS, copy_uncopied, plan_consolidation
from registry.migration.consolidate.lost_blobs import placed, unreadable
from registry.migration.finalize.plan import FinalizePlanner
from registry.migration.progress import Meter
from registry.migration.report import Note, Refused, Report, Unfinished
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.migration.context import Context
    from registry.migration.finalize.plan import Finalization
    from registry.migration.report import Problem

_BATCH: Final = 1000
"""Objects whose rows go in one transaction."""
_ALLOWED: Final = frozenset({Phase.CONSOLIDATED, Phase.FINALIZING})


def plan_finalize(context: Context) -> Finalization:
    """What would be deleted and what would stay, by the listing of the context. Nothing is written.

    Raises Refused in a state in which nothing may be deleted, StorageError, DatabaseError.
    """
    _check(context)
    return FinalizePlanner(context).plan()


def finalize(context: Context) -> Report:
    """Delete the source objects that have a verified copy, and all that the journal keeps for a rollback.

    Before ``finalizing`` the caller has just made a pass that was quiet. Killed and run again it goes on by a new
    listing. Raises Refused in a state in which nothing may be deleted, Unfinished while clients may hold URLs of source
    objects; StorageError, DatabaseError.
    """
    _check(context)
    return _Finalize(context).run()


def _check(context: Context) -> None:
    state = context.journal.state
    if state.state not in _ALLOWED:
        raise Refused(f"migration {state.id} is {state.state}: source objects go only once everything is copied")
    left = plan_consolidation(context)
    if left.blobs and state.state is Phase.CONSOLIDATED:
        raise Refused(f"{left.blobs} blobs are not copied: run the command without --finalize first")


class _Finalize:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._journal = context.journal
        self._driver = context.driver
        self._database = context.registry.backends.database

    def run(self) -> Report:
        finalizing = FinalizePlanner(self._context)
        plan = finalizing.plan()
        self._make_again(finalizing)
        until = plan.waits_until(self._context.registry.backends.clock())
        if until is not None:
            raise Unfinished(f"clients may hold addresses of source objects: run it again after {until}")
        report = Report(problems=self._journal.problems())
        if self._journal.state.state is not Phase.FINALIZING:
            self._move(Phase.FINALIZING)
        meter = Meter("deleting", plan.objects, 0, self._context.on_progress)
        deleted = self._delete(finalizing.links(), meter) + self._delete(finalizing.blobs(), meter)
        report.problems = self._end(report.problems)
        report.counts = {"deleted": deleted, "deleted_bytes": plan.bytes}
        report.notes = [
            Note("stays", stay.objects, f"{stay.reason}: {stay.bytes} bytes, as {stay.example}") for stay in plan.stays
        ]
        report.state = self._journal.state.state
        return report

    def _make_again(self, finalizing: FinalizePlanner) -> None:
        """Raises Unfinished if copies have gone from storage: the source objects were all that was left of them."""
        registry, gone = self._context.registry, 0
        for digest, size, location in finalizing.absent():
            if not self._is_there(location.key, size):
                registry.blob_locations.mark_lost_and_next(digest, size, location, MISSING)
                gone += 1
        if gone:
            copy_uncopied(self._context)
            raise Unfinished(f"{gone} copies had gone from storage, and were made again: run it again")

    def _is_there(self, key: str, size: int) -> bool:
        try:
            return self._driver.stat(key).size == size
        except PathNotFound:
            return False

    def _move(self, phase: Phase) -> None:
        state = self._journal.move(phase, read_only=self._journal.state.read_only)
        self._context.registry.write_gate.note(state)

    def _delete(self, found: Iterable[tuple[str, str]], meter: Meter) -> int:
        """Delete objects, those of blobs unless their copy has gone meanwhile. Returns how many."""
        remaining: Iterator[tuple[str, str]] = iter(found)
        deleted = 0
        while batch := list(islice(remaining, _BATCH)):
            keys = self._forget(batch)
            self._driver.delete(keys)
            deleted += len(keys)
            meter.add(len(batch), 0)
        return deleted

    def _forget(self, batch: list[tuple[str, str]]) -> list[str]:
        """Remove the rows of these source locations; returns the keys of the objects that may be deleted.

        A client may have deleted our copy since the plan and pushed the blob again, which joined the source location.
        """
        store = self._driver.name
        digests = sorted({digest for _, digest in batch if digest})
        with self._database.transaction() as connection:
            copied = migration_queries.copied(connection, digests, store=store).get()
            keys = [key for key, digest in batch if not digest or digest in copied]
            migration_queries.forget(connection, keys, store=store)
        return keys

    def _end(self, problems: list[Problem]) -> list[Problem]:
        """Delete the journal once no source object is served, and note last that the migration is finalized.

        Returns ``problems`` and the blobs that could not be copied, and keeps both for later runs.
        """
        registry = self._context.registry
        for _ in range(ROUNDS):
            copy_uncopied(self._context)
            shards = self._journal.shard_names()
            found = [problem for shard in shards for problem in unreadable(registry, placed(registry, shard))]
            if self._forget_all():
                break
        else:
            raise Unfinished("blobs are deleted and pushed again faster than they are copied; run it again")
        kept = {state_key(migration) for migration in self._journal.locations.ids()}
        told = sorted({*problems, *found})
        if told:
            self._journal.write_problems(told)
            kept.add(problems_key(self._journal.id))
        listing = (key for key, _ in self._driver.list(MIGRATIONS) if key not in kept)
        while batch := list(islice(listing, _BATCH)):
            self._driver.delete(batch)
        self._move(Phase.FINALIZED)
        return told

    def _forget_all(self) -> bool:
        """False if a client has pushed a blob again and was given a source object for it."""
        store = self._driver.name
        with self._database.exclusive() as connection:
            blobs, _ = migration_queries.uncopied_total(connection, store=store).get()
            if not blobs:
                migration_queries.forget_all(connection, store=store)
            return not blobs
