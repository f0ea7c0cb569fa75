"""Reconciliation: the database agrees with what storage says of a repository, at a first touch or after another tool.

Storage ahead of the database (I11): storage decides everything. The database up to date: what another tool added or
moved is taken, what it left out is put back, because a tool that read an older index would otherwise erase acknowledged
pushes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from registry.database import blob_locations, manifests, repositories
from registry.images.omissions import Source
from registry.images.records.blob_discovery import BlobDiscovery
from registry.images.records.first_reading import FirstReading, Moved
from registry.images.records.history import History
from registry.images.records.journal import Journal
from registry.images.records.repository_reader import RepositoryReader
from registry.images.records.row_merge import RowMerge
from registry.images.trash.trash_recovery import TrashRecovery
from registry.oci.errors import RegistryError
from registry.oci.record import Record

if TYPE_CHECKING:
    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.images.backends import Backends
    from registry.images.omissions import Omission
    from registry.images.records.repository_reader import StoredRepository
    from registry.images.source_locations import SourceLocations
    from registry.images.write_gate import WriteGate

ATTEMPTS = 10
"""How often the database may move while storage is read."""
log = structlog.get_logger(__name__)


class Reconciliation:
    """Any thread, any process; several at once for one repository are harmless."""

    def __init__(self, backends: Backends, write_gate: WriteGate, source_locations: SourceLocations) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._source_locations = source_locations
        self._journal = Journal(backends)
        self._reader = RepositoryReader(backends)
        self._history = History(backends)
        self._discovery = BlobDiscovery(backends)
        self._first_reading = FirstReading(backends, self._reader, self._discovery)
        self._trash_recovery = TrashRecovery(backends)

    def current(self, name: str, etag: str) -> RepositoryRow | None:
        """The row of the repository, reconciled first unless it was read from the index with this etag.

        ``etag`` is that of the index on storage; "" if there is none. Raises as ``reconcile`` does.
        """
        with self._backends.database.snapshot() as connection:
            row = repositories.find(connection, name).get()
        if row is None or row.is_unread or row.etag != etag:
            return self.reconcile(name)
        return row

    def reconcile(self, name: str) -> RepositoryRow | None:
        """The row of the repository after the database agrees with storage; None if neither knows it.

        Raises StorageError or ManifestInvalid (an unreadable index) with nothing written.
        """
        self._source_locations.ensure_row()
        for _ in range(ATTEMPTS):
            with self._backends.database.snapshot() as connection:
                row = repositories.find(connection, name).get()
                known = manifests.of_repository(connection, row.id).get() if row else {}
            view = self._reader.read(name)
            if view is None:
                self._backends.omissions.note(Source.CONTENT, name, ())
                if self._has_remains(name):
                    self._backends.index_file.create(name)  # records and rows are put back into it
                    continue
                if row is not None and (row.etag or row.is_unread):
                    self.forget(row)
                    return None
                return row
            if row is None and view.is_nothing:
                return None
            try:
                merged = self._merge(name, row, known, view)
            except Moved:
                continue
            self._write_down(name, view)
            self._backends.omissions.note(Source.CONTENT, name, view.omissions, version=view.etag)
            return merged
        message = f"repository {name} changes faster than it can be read"
        raise RegistryError(message)

    def adopt_optional(self, repository: RepositoryRow) -> list[Omission]:
        """As ``BlobDiscovery.adopt_optional``, of a repository that was just reconciled. Raises StorageError."""
        return self._discovery.adopt_optional(repository)

    def _write_down(self, name: str, view: StoredRepository) -> None:
        """Write an index that was completed from its records, so that they need not be read again."""
        if view.noted is None:
            return
        with self._backends.database.autocommit() as connection:
            if self._write_gate.is_read_only(connection):
                return
        self._history.write(name, view.noted, view.etag)

    def forget(self, row: RepositoryRow) -> None:
        """Remove every row of a repository that storage does not have. If it comes back it is read anew."""
        backends = self._backends
        with backends.database.transaction() as connection:
            repositories.lock(connection, row.id)
            repositories.remove(connection, row.id)
            if backends.layout.per_repository:
                blob_locations.forget_below(connection, backends.driver.name, f"{row.name}/blobs")
        log.warning("a repository is gone from storage and was forgotten", repository=row.name)

    def _has_remains(self, name: str) -> bool:
        """Whether storage has something of a repository whose index is missing."""
        if self._journal.has_records(name):
            return True
        children = self._backends.driver.children(name) if self._backends.layout.per_repository else ()
        return any(child.name in {"oci-layout", "blobs"} and not child.is_link for child in children)

    def _merge(
        self, name: str, row: RepositoryRow | None, known: dict[str, ManifestRow], view: StoredRepository
    ) -> RepositoryRow:
        repository = row or self._create(name)
        if repository.is_unread:
            return self._read_first(repository, known, view)
        self._reader.load_manifests(name, known, view, below=repository.missing_manifests > 0)
        self._discovery.adopt(repository, view)
        if view.last > repository.sequence:
            self._recover_trash(repository, view)
        if row is not None and self._is_as_it_was(row, view):
            return row
        backends = self._backends
        with backends.database.transaction() as connection:
            current = repositories.lock(connection, repository.id).get()
            if current is None or current.folded_sequence != repository.folded_sequence:
                raise Moved
            merge = RowMerge(backends, connection, current, view)
            merge.run()
            if not merge.is_behind and not self._write_gate.is_read_only(connection):
                merge.put_back()
            result = repositories.get(connection, current.id).get()
        log.info("repository reconciled with storage", repository=name, sequence=merge.sequence, behind=merge.is_behind)
        return result or repository

    def _read_first(
        self, repository: RepositoryRow, known: dict[str, ManifestRow], view: StoredRepository
    ) -> RepositoryRow:
        self._first_reading.run(repository, known, view)
        self._recover_trash(repository, view)
        with self._backends.database.transaction() as connection:
            current = repositories.lock(connection, repository.id).get()
            if current is None or not current.is_unread:
                raise Moved
            RowMerge(self._backends, connection, current, view).end_reading()
            result = repositories.get(connection, current.id).get()
        log.info("repository read from storage", repository=repository.name, sequence=view.last)
        return result or repository

    def _recover_trash(self, repository: RepositoryRow, view: StoredRepository) -> None:
        """Before the row says that storage was read: if it fails, or is killed, it is done again."""
        there, last = set(view.index.manifests()), view.index.deleted
        for number in sorted(view.records):
            record = Record.parse(view.records[number])
            if record.descriptor is not None:
                there.add(record.descriptor.digest)
            elif record.operation == "delete" and record.digest is not None:
                there.discard(record.digest)
                last = number
        self._trash_recovery.run(repository, last, there=there)

    def _is_as_it_was(self, row: RepositoryRow, view: StoredRepository) -> bool:
        """Whether what was missing still is, and nothing else has changed."""
        missed = view.missed(self._backends.driver.capabilities)
        same = (row.etag, row.missing_manifests) == (view.etag, missed)
        return same and row.missing_manifests > 0 and not view.manifests and view.last <= row.sequence

    def _create(self, name: str) -> RepositoryRow:
        """Make a row that is not used until what storage has is in the database too."""
        now, sequence = self._backends.clock(), repositories.UNREAD
        with self._backends.database.transaction() as connection:
            return repositories.create(connection, name, etag="", now=now, sequence=sequence)
