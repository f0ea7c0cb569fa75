"""Folding: records become ``index.json``, in the order of their numbers and soon after they were acknowledged (I11).

Tests: ``tests/images/test_crash.py``, ``tests/images/records/test_history.py``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from math import inf
from typing import TYPE_CHECKING

import structlog

from registry.database import changes, manifests, repositories, tags, withheld
from registry.images.blob_deletion import BlobDeletion
from registry.images.records.history import History
from registry.images.records.journal import Journal, NumberTaken, understood
from registry.images.records.written_indexes import WrittenIndexes
from registry.images.trash.trash_files import TrashFiles
from registry.oci.digest import Digest
from registry.oci.errors import Unavailable
from registry.oci.index import Index, Owner
from registry.storage.errors import AlreadyExists, PathNotFound, PreconditionFailed

if TYPE_CHECKING:
    from registry.database.changes import ChangeRow
    from registry.database.repositories import RepositoryRow
    from registry.images.backends import Backends
    from registry.images.records.journal import PendingChange
    from registry.images.records.reconciliation import Reconciliation
    from registry.oci.record import Record

ABANDONED_SECONDS = 5.0
"""A change that is pending for longer was left by a worker that died: the next fold completes it."""
NOTE_SECONDS = 0.25
"""How long after its write another process may take to note the index in the row."""
REMEMBERED = 10_000
"""Records of which this process knows by itself that they are on storage."""
ATTEMPTS = 20
"""How often the index may be written by another between our read and our write."""

FOREIGN_SECONDS = 60.0
"""How long a repository whose index is another registry's is left alone, unless something is pushed to it."""
BEHIND = "the database has lost something that storage has, which is read again; try again"

log = structlog.get_logger(__name__)


class _Foreign(Exception):
    """The index is another registry's: it is not written over, and the changes wait for a migration."""


class Folding:
    """Records changes and folds them. Any thread, any process: the conditional write decides between several."""

    def __init__(self, backends: Backends, reconciliation: Reconciliation) -> None:
        self._backends = backends
        self._memory = backends.memory
        self._journal = Journal(backends)
        self._reconciliation = reconciliation
        self._deletion = BlobDeletion(backends)
        self._trash_files = TrashFiles(backends)
        self._lock = threading.Lock()
        self._recorded: dict[tuple[str, int], None] = {}
        self._waiting: dict[str, None] = {}
        self._written = WrittenIndexes(backends)
        self._history = History(backends)
        self.wake = threading.Event()
        """Set when there is something to fold."""

    def record(self, change: PendingChange) -> None:
        """Make a committed change durable on storage; when this returns its client may be answered.

        Raises Unavailable where storage has another change of this number: what was done may or may not stay.
        """
        repository = change.repository
        try:
            self._journal.write(repository.name, repository.sequence, change.line)
        except NumberTaken as error:
            self._give_up(repository, repository.sequence, change.line)
            raise Unavailable(BEHIND, headers={"Retry-After": "1"}) from error
        with self._memory.of(repository.name) as notes:
            notes.newest = max(repository.sequence, notes.newest)
        with self._lock:
            self._recorded[repository.name, repository.sequence] = None
            if len(self._recorded) > REMEMBERED:  # folded by another process: forget the oldest
                del self._recorded[next(iter(self._recorded))]
            self._waiting[repository.name] = None
        self.wake.set()

    def waiting(self) -> list[str]:
        """Names of the repositories with changes of this process to fold, the oldest first."""
        with self._lock:
            names = list(self._waiting)
            self._waiting.clear()
            self.wake.clear()
        return names

    def abandoned(self) -> list[str]:
        """Names of the repositories with changes that their own process should have folded long ago."""
        with self._backends.database.autocommit() as connection:
            names = repositories.unfolded(connection, before=self._backends.clock() - ABANDONED_SECONDS).get()
        before = time.monotonic() - FOREIGN_SECONDS
        return [name for name in names if self._met_foreign(name) <= before]

    def _met_foreign(self, name: str) -> float:
        with self._memory.of(name) as notes:
            return -inf if notes.met_foreign is None else notes.met_foreign

    def fold(self, name: str) -> int:
        """Bring ``index.json`` up to the last record before the first that is still being written.

        Returns how many changes were folded. Where the index is another registry's none is: they wait, their records
        on storage. Raises StorageError with the index as it was, or as it will be.
        """
        for _ in range(ATTEMPTS):
            with self._backends.index_locks.hold(name), contextlib.suppress(PreconditionFailed, AlreadyExists):
                row, changes = self._changes(name)
                if row is None or not changes:
                    return 0
                try:
                    if not self._fold(row, changes):
                        continue
                except _Foreign:
                    self._wait_for_migration(name)
                    return 0
                break
        else:
            log.warning("index.json is written faster than it can be folded", repository=name)
            return 0
        self._complete(name)
        return len(changes)

    # ----

    def _changes(self, name: str) -> tuple[RepositoryRow | None, list[ChangeRow]]:
        """The repository and those of its changes that can be folded now."""
        with self._memory.of(name) as notes:
            newest, notes.newest = notes.newest, 0
        with self._backends.database.snapshot() as connection:
            found = repositories.find(connection, name)
            unfolded = changes.of_name(connection, name).get()
            row = found.get()
        if newest > (row.sequence if row is not None else 0):
            log.warning("the database has lost what was recorded; storage is read again", repository=name)
            self._reconciliation.reconcile(name)
            return self._changes(name)
        if row is None:
            return None, []
        ready: list[ChangeRow] = []
        for change in unfolded:
            if not self._is_recorded(row, change):
                if self._backends.clock() - change.created_at < ABANDONED_SECONDS:
                    self._wait_for(row, unfolded[len(ready) :])
                    break
                try:
                    self._journal.write(name, change.sequence, change.record)
                except NumberTaken:
                    self._give_up(row, change.sequence, change.record)
                    break
            ready.append(change)
        return row, ready

    def _give_up(self, row: RepositoryRow, sequence: int, line: bytes) -> None:
        """Take what storage has under this number in the place of our change; what that leaves of it is put back."""
        log.warning("a number was given twice: the database is behind storage", repository=row.name, sequence=sequence)
        with self._backends.database.transaction() as connection:
            changes.remove(connection, row.id, sequence, line)
        self._reconciliation.reconcile(row.name)

    def _wait_for(self, row: RepositoryRow, changes: list[ChangeRow]) -> None:
        """Another process writes the first of ``changes``; where some after it are ours, look again soon."""
        with self._lock:
            if any((row.name, change.sequence) in self._recorded for change in changes):
                self._waiting[row.name] = None
                self.wake.set()

    def _is_recorded(self, row: RepositoryRow, change: ChangeRow) -> bool:
        if change.state == changes.RECORDED:
            return True
        with self._lock:
            return (row.name, change.sequence) in self._recorded

    def _wait_for_migration(self, name: str) -> None:
        with self._memory.of(name) as notes:
            is_new = notes.met_foreign is None
            notes.met_foreign = time.monotonic()
        if is_new:
            log.warning("an index.json is another registry's: changes wait until it is migrated", repository=name)

    def _fold(self, row: RepositoryRow, changes: list[ChangeRow]) -> bool:
        """False if another tool has written the index: its changes were taken, do it again. Raises _Foreign."""
        try:
            index, etag = self._read(row)
        except PathNotFound:
            if row.etag:  # it was there: what it held is put back, from the journal and the rows
                self._reconciliation.reconcile(row.name)
                return False
            index, etag = Index.empty(), ""
        else:
            if not self._backends.layout.per_repository and index.owner is Owner.FOREIGN:
                raise _Foreign
            if etag != row.etag:
                if not self._is_being_noted(row.name, etag):
                    self._reconciliation.reconcile(row.name)
                return False
        records = [understood(row.name, change.record) for change in changes]
        last = changes[-1].sequence
        if index.folded < last:
            self._bring(row, index, records)
            etag = self._write(row.name, index, etag)
        self._keep(row, records)
        self._note(row, changes, etag, releases=any(record.released for record in records))
        self._unlink(row, records)
        return True

    def _bring(self, row: RepositoryRow, index: Index, records: list[Record]) -> None:
        """Make the changes in ``index``, and have it say their times and what they withhold."""
        is_noted = index.noted == index.folded
        for record in records:
            if record.sequence > index.folded:
                record.apply(index)
        index.folded = records[-1].sequence
        if is_noted:
            index.noted = index.folded
        else:
            with self._memory.of(row.name) as notes:
                notes.is_incomplete = True
        self._fill(row, index)

    def _fill(self, row: RepositoryRow, index: Index) -> None:
        """Say the times of what no record brought, as the database has them: another tool's, or a source registry's."""
        with self._memory.of(row.name) as notes:
            untimed = notes.untimed
        if index.untimed in {0, untimed}:
            return
        with self._backends.database.autocommit() as connection:
            pushed = manifests.pushed_at(connection, row.id).get()
            tagged = tags.updated_at(connection, row.id).get()
        index.fill(pushed, tagged)
        with self._memory.of(row.name) as notes:
            notes.untimed = index.untimed

    def _complete(self, name: str) -> None:
        """Take from history what the release before left out. The index is not kept from readers meanwhile."""
        with self._memory.of(name) as notes:
            is_incomplete, notes.is_incomplete = notes.is_incomplete, False
        if is_incomplete:
            self._history.complete(name)

    def _read(self, row: RepositoryRow) -> tuple[Index, str]:
        """The index and its etag; not asked of the store where this process wrote it last. Raises PathNotFound."""
        written = self._written.take(row)
        with self._memory.of(row.name) as notes:
            is_surprising, notes.is_surprising = notes.is_surprising, False
        if written is not None:
            return written, row.etag
        if not row.etag and not is_surprising and not self._backends.driver.capabilities.stat_is_local:
            raise PathNotFound(row.name, "no row says that it was written")
        data, stat = self._backends.index_file.read(row.name)
        return Index.parse(data), stat.etag

    def _write(self, name: str, index: Index, etag: str) -> str:
        """Replace the index with that etag ("": there is none). Raises PreconditionFailed, AlreadyExists."""
        data = index.serialise()
        try:
            written = self._backends.index_file.write(name, data, etag)
        except AlreadyExists:
            with self._memory.of(name) as notes:
                notes.is_surprising = True
            raise
        self._written.keep(name, index, data, written)
        return written

    def _is_being_noted(self, name: str, etag: str) -> bool:
        """Whether another process of ours wrote this index and is about to say so in the row."""
        deadline = time.monotonic() + NOTE_SECONDS
        while time.monotonic() < deadline:
            with self._backends.database.autocommit() as connection:
                row = repositories.find(connection, name).get()
            if row is None or row.etag == etag:
                return True
            time.sleep(NOTE_SECONDS / 10)
        return False

    def _note(self, row: RepositoryRow, folded: list[ChangeRow], etag: str, *, releases: bool) -> None:
        done = [(row.id, change.sequence) for change in folded]
        with self._backends.database.transaction() as connection:
            repositories.lock(connection, row.id)
            changes.mark_recorded(connection, done)
            changes.remove_folded(connection, row.id, folded=folded[-1].sequence)
            if releases:
                withheld.remove_folded(connection, row.id, folded=folded[-1].sequence)
            repositories.set_folded(connection, row.id, folded=folded[-1].sequence, etag=etag)
        with self._memory.of(row.name) as notes:
            notes.met_foreign = None
        with self._lock:
            for change in folded:
                self._recorded.pop((row.name, change.sequence), None)

    def _keep(self, row: RepositoryRow, records: list[Record]) -> None:
        """Have the bytes of manifests that are gone in the trash, before a row says that this fold is done."""
        for record in records:
            if record.operation == "delete" and record.digest is not None:
                self._trash_files.keep(row, Digest(record.digest))

    def _unlink(self, row: RepositoryRow, records: list[Record]) -> None:
        """Delete the bytes of manifests that are gone; only now, so that a reader of the index never missed one."""
        for record in records:
            if record.operation == "delete" and record.digest is not None:
                self._deletion.delete_unheld(row, Digest(record.digest))
