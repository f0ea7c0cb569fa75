"""Survey: what a collection makes sure of before its first delete (proposal 0013, "Before the first write").

A repository that the database does not know, or knows as it was before its last change, may need any blob: then
nothing is collected. One that is known and cannot be relied on keeps what it might name.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import structlog

from registry.database import changes, leases, repositories, stores
from registry.database.collection import state, survey
from registry.database.statement import BATCH
from registry.images.migration_journal.documents import Phase
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.images.omissions import Kind
from registry.images.records.journal import Journal
from registry.images.records.repository_reader import RepositoryReader
from registry.maintenance.collection.survey.former_processes import FormerProcesses
from registry.maintenance.collection.survey.gc_state import DAY, GcState, Looked
from registry.oci.errors import RegistryError
from registry.oci.index import Owner
from registry.parallel import map_parallel
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.database.collection.survey import SurveyedRow
    from registry.database.repositories import RepositoryRow
    from registry.images.registry import Registry

    OnProgress = Callable[[int, int], object]
    """Called with the repositories that were looked at, and those there are in all."""

MOST_UNSAFE: Final = 10_000
"""Repositories that are left alone at most: with more nothing is collected."""
FOLD_SECONDS: Final = 2.0
"""How long an etag that differs may be that of a fold whose row is about to be written."""
PENDING_SECONDS: Final = 1.0
"""Seconds after which a change that is still pending is no longer one that is just being made."""
MIGRATION_LEASE: Final = "migration"
"""The lease of the command that migrates."""
_UNDER_WAY: Final = (Phase.ADOPTING, Phase.ROLLING_BACK, Phase.FINALIZING)
_REBUILD: Final = "run `registry rebuild`, then collect"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Surveyed:
    """What a survey found."""

    refusal: str | None = None
    """Why nothing at all may be collected, and what to do next; None if something may."""
    unsafe: dict[str, str] = field(default_factory=dict)
    """Repositories, and directories, that may name what is not known, each with the reason.

    Nothing is taken from these, and no blob that any of them could share.
    """
    looked: Looked | None = None
    """The look that the collection relies on, for ``GcState.begin``; None if it is of no use to the next one."""


class _Refused(Exception):
    """Nothing may be collected."""


class Survey:
    """For one thread, once; several at once are harmless."""

    def __init__(self, registry: Registry, *, dry: bool = False) -> None:
        """A ``dry`` survey writes nothing: it does not read what changed on storage into the database."""
        self._registry = registry
        self._backends = registry.backends
        self._is_dry = dry
        self._state = GcState(registry)
        self._reader = RepositoryReader(registry.backends)
        self._unsafe: dict[str, str] = {}
        self._journal = Journal(registry.backends)
        self._pending: set[str] = set()

    def take(self, on_progress: OnProgress | None = None) -> Surveyed:
        """Look, and say what may be collected. Raises StorageError, DatabaseError: then nothing may.

        On a store over a network it asks once for each repository; where the database would say that a copy of it was
        restored that is done once a day, and rows are enough between.
        """
        try:
            looked = self._take(on_progress)
        except _Refused as refused:
            return Surveyed(str(refused), self._unsafe)
        return Surveyed(None, self._unsafe, None if self._unsafe else looked)

    def unknown(self) -> str | None:
        """Why a repository may need a blob of which no row says so, where all share blobs; None if rows say all of it.

        For a deletion that waits for nothing else: manifests that are missing need nothing until they come back.
        Raises DatabaseError.
        """
        if self._backends.layout.per_repository:
            return None
        instance = self._state.instance()
        with self._backends.database.autocommit() as connection:
            now = Looked(state.now(connection), instance)
        before = self._state.looked()
        asks_storage = before is None or instance is None or not _is_fresh(before, now)
        try:
            if asks_storage:
                self._find_unknown()
            self._look_at_known(None, asks_storage=asks_storage)
        except _Refused as refused:
            return str(refused)
        except StorageError as error:
            return f"storage cannot be looked at: {error}"
        reasons = (f"{name}: {reason}" for name, reason in self._unsafe.items() if reason not in _KNOWN)
        return next(reasons, None)

    def _take(self, on_progress: OnProgress | None) -> Looked:
        former = FormerProcesses(self._registry)
        if not self._is_dry:
            former.drop_doomed()
        refusal = former.refusal() or self._state.refusal() or self._closed()
        if refusal is not None:
            raise _Refused(refusal)
        instance = self._state.instance()
        with self._backends.database.autocommit() as connection:
            looked = Looked(state.now(connection), instance)
        before = self._state.looked()
        is_fresh = before is not None and instance is not None and _is_fresh(before, looked)
        if not is_fresh:
            self._find_unknown()
        self._look_at_known(on_progress, asks_storage=not is_fresh)
        self._find_unwritten()
        return before if before is not None and is_fresh else looked

    def _closed(self) -> str | None:
        """Why no change may commit, or a migration that is under way; None if neither."""
        backends = self._backends
        if backends.layout.per_repository:
            return None
        self._registry.source_locations.ensure_row()
        row = self._registry.write_gate.row()
        if row is None or row.mode != stores.OPEN:
            reason = row.reason if row is not None else "storage was not looked at for migrations"
            return f"the storage takes no changes ({reason}); collect when it does"
        newest = MigrationJournalReader(backends.driver).newest()
        with backends.database.autocommit() as connection:
            held = leases.find(connection, MIGRATION_LEASE).get()
            is_held = held is not None and held.deadline > state.now(connection)
        if is_held or (newest is not None and newest[0].state in _UNDER_WAY):
            return "a migration of this storage is under way: finish it (`registry migrate-s3-storage`), then collect"
        return None

    # ---- what storage has

    def _find_unknown(self) -> None:
        """Raises _Refused for a repository that the database does not know, and that may name something."""
        names = self._registry.storage_walk.repositories()
        while batch := list(islice(names, BATCH)):
            with self._backends.database.autocommit() as connection:
                known = survey.known(connection, batch).get()
            for name in batch:
                if name not in known:
                    self._judge_unknown(name)
        for omission in self._backends.omissions.of(""):
            if omission.kind in {Kind.DIRECTORY, Kind.REPOSITORY}:
                self._keep(omission.where, omission.reason)

    def _judge_unknown(self, name: str) -> None:
        backends = self._backends
        try:
            view = self._reader.read(name)
            last = view.last if view is not None else self._journal.last(name)
        except (RegistryError, StorageError) as error:
            self._keep(name, f"it cannot be read: {error}")
            return
        if self._find(name) is not None:
            return  # it was being made
        if view is not None and view.is_nothing:
            self._keep(name, _FOREIGN)
        elif last:
            raise _Refused(f"the database does not know repository {name}, which storage has: {_REBUILD}")
        elif view is not None and any(True for _ in view.index.manifests()):
            if not backends.driver.capabilities.external_writers:
                raise _Refused(f"the database does not know repository {name}, which storage has: {_REBUILD}")
            self._read_in(name, "another tool placed it, and it is not read yet")

    # ---- what the database has

    def _look_at_known(self, on_progress: OnProgress | None, *, asks_storage: bool) -> None:
        database, done = self._backends.database, 0
        with database.autocommit() as connection:
            total = survey.count(connection).get()
        for rows in self._pages():
            doubtful = [row for row in rows if _reason(row) is not None]
            again = map_parallel(self._backends.driver.capabilities, self._look_again, doubtful)
            for row, reason in zip(doubtful, again, strict=True):
                if reason is not None:
                    self._keep(row.name, reason)
            self._pending.update(row.name for row in rows if row.is_pending)
            if asks_storage:
                relied = [row for row in rows if row.name not in self._unsafe]
                found = map_parallel(self._backends.driver.capabilities, self._look, relied)
                for row, reason in zip(relied, found, strict=True):
                    if reason is not None:
                        self._keep(row.name, reason)
            done += len(rows)
            if on_progress is not None:
                on_progress(done, max(done, total))

    def _pages(self) -> Iterator[list[SurveyedRow]]:
        last = ""
        while True:
            with self._backends.database.autocommit() as connection:
                rows = survey.page(connection, last=last, count=BATCH).get()
            if not rows:
                return
            yield rows
            last = rows[-1].name

    def _look_again(self, row: SurveyedRow) -> str | None:
        """As ``_look``, for rows that say why: what was missing may have come since they were read."""
        reason = _reason(row)
        if reason is None or not (row.is_unread or row.missing_manifests):
            return reason
        return self._reread(row.name, reason) or (_INCOMPLETE if row.is_incomplete else None)

    def _look(self, row: SurveyedRow) -> str | None:
        """Why the rows of a repository cannot be relied on; None if storage says what they say. Raises _Refused."""
        name = row.name
        try:
            etag, last = self._registry.repositories.ask_storage(name, row.sequence)
            current = self._find(name)  # read after storage, so that only an older copy is behind it
            if current is None:
                return None
            if last > current.sequence:
                message = f"storage has later changes of repository {name} than this database: {_REBUILD}"
                raise _Refused(message)
            deadline = time.monotonic() + FOLD_SECONDS
            while etag != current.etag and time.monotonic() < deadline:
                time.sleep(FOLD_SECONDS / 20)
                current = self._find(name)
                if current is None:
                    return None
                etag = self._backends.index_file.etag(name)
            return None if etag == current.etag else self._changed(name, etag)
        except StorageError as error:
            return f"it cannot be read: {error}"

    def _changed(self, name: str, etag: str) -> str | None:
        """As ``_look``, for an index that is not the one in the rows. Raises StorageError."""
        if not etag:
            return f"its index.json is gone from storage; {_REBUILD}"
        if not self._backends.layout.per_repository and self._backends.index_file.owner(name) is Owner.FOREIGN:
            return _FOREIGN
        return self._reread(name, "another tool has changed its index.json, which is not read yet")

    def _reread(self, name: str, reason: str) -> str | None:
        """Read a repository into the database. Why that is not done; None if it is."""
        if self._is_dry:
            return reason
        try:
            with self._backends.index_locks.hold(name):
                row = self._registry.reconciliation.reconcile(name)
        except (RegistryError, StorageError) as error:
            return f"it cannot be read: {error}"
        return None if row is None or not row.missing_manifests else _MISSING

    def _read_in(self, name: str, reason: str) -> None:
        if (left := self._reread(name, reason)) is not None:
            self._keep(name, left)

    def _find_unwritten(self) -> None:
        """Keep what has a change whose record is not on storage, and is not just being written."""
        found = {name: unwritten for name in self._pending if (unwritten := self._unwritten(name))}
        if not found:
            return
        time.sleep(PENDING_SECONDS)
        for name, before in found.items():
            if lasting := sorted(before & self._unwritten(name)):
                self._keep(name, f"change {lasting[0]} of it is not on storage yet")

    def _unwritten(self, name: str) -> set[int]:
        """The numbers of the pending changes that storage has no record of."""
        with self._backends.database.autocommit() as connection:
            rows = changes.of_name(connection, name).get()
        pending = {row.sequence for row in rows if row.state == changes.PENDING}
        if not pending:
            return pending
        try:
            return pending - self._journal.after(name, min(pending) - 1).keys()
        except StorageError as error:
            self._keep(name, f"it cannot be read: {error}")
            return set()

    def _find(self, name: str) -> RepositoryRow | None:
        with self._backends.database.autocommit() as connection:
            return repositories.find(connection, name).get()

    def _keep(self, name: str, reason: str) -> None:
        """Raises _Refused if there are too many."""
        self._unsafe.setdefault(name, reason)
        if len(self._unsafe) > MOST_UNSAFE:
            some = "; ".join(f"{name}: {reason}" for name, reason in islice(self._unsafe.items(), 3))
            raise _Refused(f"more than {MOST_UNSAFE} repositories cannot be relied on ({some}); repair these first")


_MISSING: Final = "it names manifests that storage does not have, or not as they were: push these again"
_INCOMPLETE: Final = "what its manifests name is not all known yet; a server completes that in the background"
_FOREIGN: Final = "its index.json is another registry's"
_KNOWN: Final = {_MISSING, _INCOMPLETE, _FOREIGN}
"""Reasons for which a repository has no blob beside those that its rows say it has."""


def _reason(row: SurveyedRow) -> str | None:
    if row.is_unread:
        return "it was not read from storage yet"
    if row.missing_manifests:
        return _MISSING
    if row.is_incomplete:
        return _INCOMPLETE
    return None


def _is_fresh(before: Looked, now: Looked) -> bool:
    return before.instance == now.instance and 0 <= now.at - before.at < DAY
