"""Repositories: found in the database, checked against storage at first touch, made when something is pushed."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, TypeVar

import structlog

from registry.database import repositories
from registry.images.omissions import Kind, Omission, Source
from registry.images.records.journal import Journal
from registry.oci.errors import ManifestInvalid, NameUnknown, Unavailable
from registry.storage.errors import PathRefused, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Later, Transaction
    from registry.images.backends import Backends
    from registry.images.records.reconciliation import Reconciliation
    from registry.images.source_locations import SourceLocations
    from registry.images.write_gate import WriteGate

T = TypeVar("T")

ATTEMPTS = 5
"""How often a change is begun whose repository is removed each time."""
LOOK_SECONDS = 5.0
"""After this long an index that other tools can write is compared again (design, "Outside writers")."""
FOLD_SECONDS = 0.25
"""How long an etag that differs may be that of a fold whose row is about to be written."""
MISSING_SECONDS = 300.0
"""How long at most until manifests that an index names, and that were not there, are looked for again."""
NESTED = 500
"""Keys of repositories below a repository that may come before its index in a listing that is still worth it."""

log = structlog.get_logger(__name__)


class RemovedMeanwhile(Unavailable):
    """A collection has removed a repository of which nothing was recorded: it is made again, and nothing is lost."""


def require_row(row: RepositoryRow | None) -> RepositoryRow:
    """The row of a repository that was there a moment ago, read or locked by its id. Raises Unavailable."""
    if row is None:
        raise unread()
    return row


def unread() -> Unavailable:
    """For a repository that was there a moment ago, whose row is gone.

    Nothing can be said of what it holds: a database that was lost is filled from storage again.
    """
    return Unavailable("the repository is read from storage again; try again", headers={"Retry-After": "1"})


class Repositories:
    """Any thread. Each process looks at storage itself before it trusts the database on a repository."""

    def __init__(
        self,
        backends: Backends,
        write_gate: WriteGate,
        source_locations: SourceLocations,
        reconciliation: Reconciliation,
    ) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._source_locations = source_locations
        self._journal = Journal(backends)
        self._reconciliation = reconciliation
        self._memory = backends.memory
        self._began = backends.clock()

    def touch(self, name: str, row: RepositoryRow | None = None) -> RepositoryRow | None:
        """The repository, reconciled with storage; None if it does not exist. ``row``, if it was just read, is that.

        Raises Unavailable when storage cannot tell (never a 404 for what may exist).
        """
        self.look_for_migrations()
        row = row or self._find(name)
        if self._is_fresh(name, row):
            return row
        with self._backends.index_locks.hold(name):
            row = self._find(name)
            if self._is_fresh(name, row):
                return row
            try:
                row = self._look(name, row)
            except (StorageError, ManifestInvalid) as error:
                self._say_unread(name, error)
                message = f"repository {name} could not be read from storage; see the log, then try again"
                raise Unavailable(message, headers={"Retry-After": "5"}) from error
            self._backends.omissions.note(Source.TOUCH, name, ())
            self._note_look(name, row)
            return row

    def require(self, name: str) -> RepositoryRow:
        """The repository. Raises NameUnknown, Unavailable."""
        row = self.touch(name)
        if row is None:
            raise NameUnknown(f"there is no repository {name}")
        return row

    def ensure(self, name: str, row: RepositoryRow | None = None) -> RepositoryRow:
        """As ``touch``; made when it is absent: a valid, empty image layout on storage, then its row.

        Raises NameInvalid for a new one where a migration has no room for it, Unavailable where no change may commit.
        """
        row = self.touch(name, row)
        if row is not None:
            return row
        with self._backends.index_locks.hold(name):
            row = self._find(name) or self._make(name)
        return self.require(name) if row.is_unread else row

    def again(self, change: Callable[[], T]) -> T:
        """The result of ``change``, which ensures a repository; done again where that was removed meanwhile.

        Raises what ``change`` raises; RemovedMeanwhile where that does not end.
        """
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(RemovedMeanwhile):
                return change()
        return change()

    def lock(self, connection: Transaction, repository: RepositoryRow, *, forced: bool = False) -> RepositoryRow:
        """Lock the repository in the transaction of a change; returns its row as it is now.

        Raises Unavailable if the row is gone, or if no change may commit, unless ``forced``.
        """
        is_open = None if forced else self._write_gate.require_open(connection)
        row = require_row(repositories.lock(connection, repository.id).get())
        if is_open is not None:
            is_open.get()
        return row

    def require_open(self, connection: Transaction) -> Later[None]:
        """For the transaction of an upload session: getting it raises Unavailable if no change may commit.

        A store whose state is not known yet counts as open, because the commit of the blob will check it again.
        """
        return self._write_gate.require_open(connection, looked=False)

    def look_for_migrations(self) -> None:
        """Have in the database what migrations left on storage. Raises Unavailable if storage cannot be read."""
        try:
            self._source_locations.ensure()
        except StorageError as error:
            log.error("the journal of migrations could not be read", reason=str(error))  # noqa: TRY400 - the reason says it
            message = "storage could not be read; see the log, then try again"
            raise Unavailable(message, headers={"Retry-After": "5"}) from error

    def ask_storage(self, name: str, sequence: int, *, first: bool = True) -> tuple[str, int]:
        """The etag of the index, "" for none; and the last record, where that is after ``sequence``.

        Where it costs no request of its own the record is asked for only with ``first``. Raises StorageError.
        """
        if self._backends.driver.capabilities.stat_is_local:
            return self._backends.index_file.etag(name), self._journal.last(name) if first else 0
        return self._list(name, sequence)

    def looked_at(self, name: str) -> float:
        """When this process last compared the repository with storage (monotonic seconds); 0.0 for never."""
        return self._memory.looked(name) or 0.0

    def page(self, *, last: str, count: int) -> list[str]:
        """At most ``count`` names after ``last``, in byte order; hidden repositories are left out."""
        with self._backends.database.autocommit() as connection:
            return repositories.listed(connection, last=last, count=count).get()

    def _say_unread(self, name: str, error: StorageError | ManifestInvalid) -> None:
        """Once where it concerns this repository; each time where storage as a whole fails."""
        if isinstance(error, PathRefused | ManifestInvalid):
            omission = Omission(Kind.REPOSITORY, name, "", str(error))
            self._backends.omissions.note(Source.TOUCH, name, [omission])
            return
        log.error("a repository could not be read from storage", repository=name, reason=str(error))

    def _find(self, name: str) -> RepositoryRow | None:
        with self._backends.database.autocommit() as connection:
            return repositories.find(connection, name).get()

    def _make(self, name: str) -> RepositoryRow:
        with self._memory.of(name) as notes:
            etag = notes.foreign_etag
        if self._backends.driver.capabilities.stat_is_local:  # elsewhere the first fold writes it
            etag = self._backends.index_file.create(name) or etag
        with self._backends.database.transaction() as connection:
            self._write_gate.check_name(connection, name)
            return repositories.create(connection, name, etag=etag, now=self._backends.clock())

    def _is_fresh(self, name: str, row: RepositoryRow | None) -> bool:
        if row is not None and row.is_unread:
            return False
        with self._memory.of(name) as notes:
            looked, is_absent = notes.looked, notes.is_absent
        if looked is None:
            return self._is_looked_at_by_another(name, row)
        is_recent = time.monotonic() - looked < LOOK_SECONDS
        if self._backends.driver.capabilities.external_writers:
            return row is not None and is_recent
        return row is not None or (is_absent and is_recent)

    def _is_looked_at_by_another(self, name: str, row: RepositoryRow | None) -> bool:
        """Whether a process has looked since this one began: a copy of the database that is older would not say so."""
        if row is None or row.compared_at <= self._began or self._backends.driver.capabilities.stat_is_local:
            return False
        with self._memory.of(name) as notes:
            notes.looked = time.monotonic()
        return True

    def _note_look(self, name: str, row: RepositoryRow | None) -> None:
        with self._memory.of(name) as notes:
            notes.looked = time.monotonic()
            notes.is_absent = row is None  # should the row of one that was there ever be missing, it was lost
        if row is not None and not self._backends.driver.capabilities.stat_is_local:
            with self._backends.database.transaction() as connection:
                repositories.set_compared(connection, row.id, now=self._backends.clock())

    def _look(self, name: str, row: RepositoryRow | None) -> RepositoryRow | None:
        first = self._memory.looked(name) is None
        etag, last = self.ask_storage(name, row.sequence if row is not None else 0, first=first)
        if row is None:
            row = None if etag == "" and not last else self._reconciliation.reconcile(name)
            with self._memory.of(name) as notes:  # for ``_make``, which notes it in the row
                notes.foreign_etag = etag if row is None else ""
            return row
        if row.is_unread or (row.missing_manifests and self._is_time_to_read_again(name)):
            return self._reconciliation.reconcile(name)
        if first:
            row = self._find(name) or row  # read after the journal, so that only an older copy is behind it
            if last > row.sequence:
                return self._reconciliation.reconcile(name)
        deadline = time.monotonic() + FOLD_SECONDS
        while etag != row.etag:
            if time.monotonic() > deadline:
                with self._memory.of(name) as notes:
                    notes.missing = None
                return self._reconciliation.reconcile(name)
            time.sleep(FOLD_SECONDS / 10)
            row = self._find(name)
            if row is None:
                return None
            etag = self._backends.index_file.etag(name)
        return row

    def _is_time_to_read_again(self, name: str) -> bool:
        """Whether what was missing may have come: soon at first, then after as long as it has been missing already."""
        now = time.monotonic()
        with self._memory.of(name) as notes:
            since, read = notes.missing or (now, now)
            if now - read < min(read - since, MISSING_SECONDS):
                return False
            notes.missing = since, now
        return True

    def _list(self, name: str, sequence: int) -> tuple[str, int]:
        """Both in one request: in a listing the records come first, and then the index."""
        layout, last = self._backends.layout, 0
        index, journal = layout.index(name), layout.journal(name)
        found = self._backends.driver.list(name, after=layout.record(name, sequence))
        nested = 0
        for key, stat in found:
            if key == index:
                return stat.etag, last
            if key > index:
                return "", last
            if key.startswith(f"{journal}/"):
                span = layout.span_of(key.rpartition("/")[2])
                last = max(last, 0 if span is None else span.last)
                continue
            nested += 1
            if nested > NESTED:
                return self._backends.index_file.etag(name), last
        return "", last
