"""*Orphans*: objects of which no row knows, as pushes leave them whose process was killed (step 6 of proposal 0013).

Where all repositories share blobs, an object goes that stands at the key of a blob and has no row of a location, of a
blob or of the trash, and whose digest no manifest names. Where each repository has its own, a tool may be about to name
a file that no row knows: with ``--orphans`` it gets the rows of one that was found, and goes as these do.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database import repositories
from registry.database.collection import orphans
from registry.database.statement import BATCH
from registry.images.layout import COLLECTION_STATE
from registry.maintenance.collection.context import PAGE
from registry.maintenance.collection.finding import Kept, Kind, Removed, Waiting
from registry.maintenance.collection.steps.batch_deletion import BatchDeletion
from registry.maintenance.collection.steps.named_digests import NamedDigests
from registry.oci.digest import Digest
from registry.oci.errors import RegistryError
from registry.storage.errors import PathNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.maintenance.collection.context import Context
    from registry.storage.driver import ObjectStat

ROOT: Final = "storage/blobs"
"""The directory of the blobs that all repositories share."""
REASON: Final = "no row knows of it, and no manifest names it"
NOTED: Final = 20
"""Batches after which it is noted how far a sweep is."""


class Orphan(NamedTuple):
    """An object that nothing knows."""

    key: str
    digest: Digest
    stat: ObjectStat


class Orphans:
    """A step of a collection. For one thread; several processes at once are harmless."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backends = context.registry.backends
        self._deletion = BatchDeletion(self._backends, context.registry.blob_deletion)
        self._after = max(context.orphans_after, self._backends.policy.undelete_window)
        self._named: NamedDigests | None = None

    def run(self) -> None:
        """Raises StorageError, DatabaseError, Stopped: the next run goes on where this one was."""
        if self._backends.layout.per_repository:
            if self._context.with_found and not self._context.dry:
                self._find_files()
        elif self._context.unsafe:
            self._context.ledger.keep(Kept.SHARED)
        else:
            self._sweep()

    # ---- where all share blobs

    def _sweep(self) -> None:
        """From where the last one was stopped to the end, then from the beginning to there."""
        with self._backends.database.autocommit() as connection:
            began = orphans.cursor(connection).get()
        now = self._now_of_storage()
        self._sweep_between(began, None, now)
        if began:
            self._sweep_between("", began, now)
        self._note("")

    def _sweep_between(self, after: str, last: str | None, now: float) -> None:
        found = self._backends.driver.list(ROOT, after=after)
        number = 0
        while several := list(islice(found, BATCH)):
            self._context.budget.look()
            inside = [each for each in several if last is None or each[0] <= last]
            self._go_through(inside, now)
            if len(inside) < len(several):
                return
            number += 1
            if number % NOTED == 0 and last is None:
                self._note(several[-1][0])

    def _go_through(self, several: Sequence[tuple[str, ObjectStat]], now: float) -> None:
        due = []
        for orphan in self._unknown(several):
            until = orphan.stat.modified + self._after
            if until > now:
                waiting = Waiting(Kind.ORPHAN, REASON, until, str(orphan.digest), bytes=orphan.stat.size)
                self._context.ledger.wait(waiting)
            elif self._is_named(orphan.digest):
                self._context.ledger.keep(Kept.NAMED)
            else:
                due.append(orphan)
        for start in range(0, len(due), PAGE):
            self._free(due[start : start + PAGE])

    def _unknown(self, several: Sequence[tuple[str, ObjectStat]]) -> list[Orphan]:
        found = {}
        for key, stat in several:
            digest = _digest_of(key)
            if digest is None:
                self._context.ledger.keep(Kept.STRANGE)
            else:
                found[key] = Orphan(key, digest, stat)
        with self._backends.database.autocommit() as connection:
            keys = orphans.known_keys(connection, list(found), store=self._backends.driver.name)
            digests = orphans.known_digests(connection, [str(orphan.digest) for orphan in found.values()])
        known_keys, known_digests = keys.get(), digests.get()
        return [
            orphan for orphan in found.values() if orphan.key not in known_keys and orphan.digest not in known_digests
        ]

    def _is_named(self, digest: Digest) -> bool:
        if self._named is None:
            self._named = NamedDigests.read(self._backends.database)
        return digest in self._named

    def _free(self, due: Sequence[Orphan]) -> None:
        if self._context.dry:
            for orphan in due:
                self._remove(orphan)
            return
        self._context.budget.take(len(due))
        batch = self._deletion.claim_orphans([(orphan.key, orphan.digest, orphan.stat) for orphan in due])
        deleted = self._deletion.delete(batch)
        gone = {row.key for row in deleted.gone}
        for orphan in due:
            if orphan.key in gone:
                self._remove(orphan)
        for problem in deleted.problems:
            self._context.ledger.trouble(problem)

    def _remove(self, orphan: Orphan) -> None:
        removed = Removed(Kind.ORPHAN, REASON, str(orphan.digest), bytes=orphan.stat.size, objects=1)
        self._context.ledger.remove(removed)

    def _note(self, cursor: str) -> None:
        if not self._context.dry:
            with self._backends.database.transaction(durable=False) as connection:
                orphans.set_cursor(connection, cursor)

    def _now_of_storage(self) -> float:
        """When the run began, by the clock by which objects are dated: that of the document it has just written."""
        if not self._context.dry:
            try:
                return min(self._context.now, self._backends.driver.stat(COLLECTION_STATE).modified)
            except PathNotFound:
                pass
        return self._context.now

    # ---- where each repository has its own

    def _find_files(self) -> None:
        for name in self._names():
            self._context.budget.look()
            if name in self._context.unsafe:
                continue
            try:
                with self._backends.index_locks.hold(name):
                    self._context.registry.reconciliation.reconcile(name)
            except (RegistryError, StorageError) as error:
                self._context.ledger.trouble(f"{name}: its files could not be looked at: {error}")

    def _names(self) -> Iterator[str]:
        page = [""]
        while page:
            with self._backends.database.autocommit() as connection:
                page = repositories.page(connection, last=page[-1], count=BATCH).get()
            yield from page


def _digest_of(key: str) -> Digest | None:
    """The digest of the blob whose key this is; None if it is none."""
    algorithm, _, encoded = key.removeprefix(f"{ROOT}/").partition("/")
    try:
        return Digest.parse(f"{algorithm}:{encoded}")
    except RegistryError:
        return None
