"""Bringing the database to what storage says of one repository: a first touch, another tool's writing, a rebuild.

Storage ahead of the database (I11): storage decides everything. The database up to date: what another tool added or
moved is taken, what it left out is put back, because a tool that read an older index would otherwise erase acknowledged
pushes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import blobs as blob_rows
from registry.database import changes as change_rows
from registry.database import manifests as manifest_rows
from registry.database import memberships
from registry.database import repositories as repository_rows
from registry.database import withheld as withheld_rows
from registry.images import manifest_store as rows
from registry.images.omissions import Source
from registry.images.records.blob_discovery import BlobDiscovery
from registry.images.records.history import History
from registry.images.records.journal import Change, Journal, understood
from registry.images.records.repository_reader import RepositoryReader
from registry.oci.digest import Digest
from registry.oci.errors import RegistryError
from registry.oci.moment import to_text, whole

if TYPE_CHECKING:
    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.omissions import Omission
    from registry.images.records.repository_reader import LoadedManifest, StoredRepository
    from registry.images.source_locations import SourceLocations
    from registry.images.write_gate import WriteGate

ATTEMPTS = 10
"""How often the database may move while storage is read."""
log = structlog.get_logger(__name__)


class _Moved(Exception):
    """The database changed while storage was read."""


class _Times(NamedTuple):
    """Of a repository's manifests and tags, as the database has them."""

    pushed: dict[str, float]
    tagged: dict[str, float]


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

    def current(self, name: str, signature: str) -> RepositoryRow | None:
        """The row of the repository, reconciled first unless it was read from the index with this signature.

        ``signature`` is that of the index on storage; "" if there is none. Raises as ``reconcile`` does.
        """
        with self._backends.database.snapshot() as connection:
            row = repository_rows.find(connection, name).get()
        if row is None or row.is_unread or row.signature != signature:
            return self.reconcile(name)
        return row

    def reconcile(self, name: str) -> RepositoryRow | None:
        """The row of the repository after the database agrees with storage; None when neither knows it.

        Raises StorageError or ManifestInvalid (an unreadable index) with nothing written.
        """
        self._source_locations.ensure_row()
        for _ in range(ATTEMPTS):
            with self._backends.database.snapshot() as connection:
                row = repository_rows.find(connection, name).get()
                known = manifest_rows.of_repository(connection, row.id).get() if row else {}
            view = self._reader.read(name)
            if view is None:
                self._backends.omissions.note(Source.CONTENT, name, ())
                if self._has_remains(name):
                    self._backends.index_file.create(name)  # records and rows are put back into it
                    continue
                if row is not None and (row.signature or row.is_unread):
                    self.forget(row)
                    return None
                return row
            if row is None and view.is_nothing:
                return None
            try:
                merged = self._merge(name, row, known, view)
            except _Moved:
                continue
            self._write_down(name, view)
            self._backends.omissions.note(Source.CONTENT, name, view.omissions, version=view.signature)
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
        self._history.write(name, view.noted, view.signature)

    def forget(self, row: RepositoryRow) -> None:
        """Remove every row of a repository that storage does not have. If it comes back it is read anew."""
        backends = self._backends
        with backends.database.transaction() as connection:
            repository_rows.lock(connection, row.id)
            repository_rows.remove(connection, row.id)
            if backends.layout.per_repository:
                blob_rows.forget_below(connection, backends.driver.name, f"{row.name}/blobs")
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
        self._reader.load_manifests(name, known, view, below=row is not None and row.missing > 0)
        repository = row or self._create(name)
        self._discovery.adopt(repository, view)
        if row is not None and self._is_as_it_was(row, view):
            return row
        backends = self._backends
        with backends.database.transaction() as connection:
            current = repository_rows.lock(connection, repository.id).get()
            if current is None:
                raise _Moved
            if current.folded != repository.folded:
                raise _Moved
            # A number is committed before its record is written: only a copy that is older has not reached it by now.
            behind = view.last > current.sequence
            self._apply_records(connection, current, view, behind=behind)
            self._write_manifests(connection, current, view)
            if behind:
                change_rows.remove_all(connection, current.id)
                self._drop_absent(connection, current, view)
                self._correct_times(connection, current, view)
            self._write_tags(connection, current, view, behind=behind)
            self._write_withheld(connection, current, view, behind=behind)
            sequence = max(current.sequence, view.last)
            repository_rows.set_reconciled(
                connection,
                current.id,
                sequence=sequence,
                folded=view.folded,
                signature=view.signature,
                missing=view.missing if backends.driver.capabilities.external_writers else 0,
            )
            for number, line in view.records.items():
                change_rows.add(connection, current.id, number, line, state=change_rows.RECORDED, now=backends.clock())
            if not behind and not self._write_gate.is_read_only(connection):
                self._put_back(connection, current, view)
            result = repository_rows.get(connection, current.id).get()
        log.info("repository reconciled with storage", repository=name, sequence=sequence, behind=behind)
        return result or repository

    def _is_as_it_was(self, row: RepositoryRow, view: StoredRepository) -> bool:
        """Whether what was missing still is, and nothing else has changed."""
        same = (row.signature, row.missing) == (view.signature, view.missing)
        return same and row.missing > 0 and not view.manifests and view.last <= row.sequence

    def _apply_records(
        self, connection: Transaction, repository: RepositoryRow, view: StoredRepository, *, behind: bool
    ) -> None:
        """Make the view's index what it will be when everything is folded.

        That includes changes that are committed and whose records another worker is only about to write: without them
        a tag or manifest that is being deleted would be found in the index, and taken for another tool's.
        """
        lines = dict(view.records)
        if not behind:
            changes = change_rows.of_repository(connection, repository.id).get()
            lines |= {change.sequence: change.record for change in changes if change.sequence > view.folded}
        records = [understood(repository.name, lines[sequence]) for sequence in sorted(lines)]
        for record in records:
            record.apply(view.index)
        left = view.index.manifests()
        for record in records:
            if record.operation == "delete" and record.digest is not None and record.digest not in left:
                view.manifests.pop(record.digest, None)

    def _create(self, name: str) -> RepositoryRow:
        """A row that others do not use, until what storage has is in the database too."""
        now, sequence = self._backends.clock(), repository_rows.UNREAD
        with self._backends.database.transaction() as connection:
            return repository_rows.create(connection, name, signature="", now=now, sequence=sequence)

    def _write_manifests(self, connection: Transaction, repository: RepositoryRow, view: StoredRepository) -> None:
        members = memberships.find_all(connection, repository.id, view.manifests).get()
        store = self._backends.driver.name
        for digest in sorted(view.manifests):  # in the order in which others take these rows
            member, loaded = members.get(digest), view.manifests[digest]
            if member is None:
                continue
            now = self._backends.clock()
            pushed_at = view.index.pushed(digest) or whole(now if loaded.modified is None else loaded.modified)
            rows.note(connection, repository.id, member.id, loaded.manifest, now=pushed_at)
            if loaded.place is None:
                continue
            place = blob_rows.location_at(connection, store, loaded.place.key).get()
            if place is None:
                continue
            own = self._backends.layout.per_repository
            if own and place.size != loaded.size and place.claim_token is None:  # adopted while a tool was writing it
                self._correct(connection, digest, loaded, place.key)
            elif own or place.signature == loaded.signature:
                blob_rows.set_verified(connection, place.id, now=now)

    def _correct(self, connection: Transaction, digest: Digest, loaded: LoadedManifest, key: str) -> None:
        blob_rows.put_location(
            connection,
            blob_rows.put(connection, digest, size=loaded.size, leased_until=0.0).get(),
            store=self._backends.driver.name,
            key=key,
            size=loaded.size,
            signature=loaded.signature,
            verified_at=self._backends.clock(),
        )

    def _correct_times(self, connection: Transaction, repository: RepositoryRow, view: StoredRepository) -> None:
        """Of manifests that an older copy of the database knows, and that were pushed again since."""
        known = manifest_rows.of_repository(connection, repository.id).get().values()
        said = ((row.blob_id, view.index.pushed(Digest(row.digest))) for row in known)
        manifest_rows.set_pushed(connection, repository.id, [(blob, at) for blob, at in said if at is not None])

    def _write_tags(
        self, connection: Transaction, repository: RepositoryRow, view: StoredRepository, *, behind: bool
    ) -> None:
        """Take the tags of the index, in which the records of ours are applied."""
        ours = manifest_rows.all_tags(connection, repository.id).get()
        manifests = manifest_rows.of_repository(connection, repository.id).get()
        for tag, descriptor in view.index.tags().items():
            row, target = ours.get(tag), manifests.get(descriptor.digest)
            is_there = row is not None and row.digest == descriptor.digest
            if target is None or (is_there and not behind):
                continue
            tagged_at = view.index.tagged(tag) or self._tagged_at(descriptor.digest, view)
            manifest_rows.put_tag(connection, repository.id, tag, target.blob_id, sequence=view.last, now=tagged_at)
            if row is not None and not is_there:
                log.warning("another tool moved a tag", repository=repository.name, tag=tag, digest=descriptor.digest)

    def _tagged_at(self, digest: Digest, view: StoredRepository) -> float:
        """When another tool set a tag, as far as files tell: with its manifest, or later with the index."""
        loaded = view.manifests.get(digest)
        return whole(view.modified if loaded is None or loaded.modified is None else loaded.modified)

    def _write_withheld(
        self, connection: Transaction, repository: RepositoryRow, view: StoredRepository, *, behind: bool
    ) -> None:
        """Have as rows what storage says, with the changes that are not there yet."""
        withheld = view.index.withheld
        if behind:
            withheld_rows.remove_all(connection, repository.id)
        noted = [row for row in withheld_rows.of_repository(connection, repository.id).get() if row.released is None]
        known = withheld_rows.collected(noted)
        withheld_rows.add(connection, repository.id, withheld - known)
        withheld_rows.remove(connection, repository.id, known - withheld)

    def _drop_absent(self, connection: Transaction, repository: RepositoryRow, view: StoredRepository) -> None:
        """The database is behind storage: what storage does not have is gone."""
        tags = view.index.tags()
        for tag in manifest_rows.all_tags(connection, repository.id).get().values():
            if tag.name not in tags:
                manifest_rows.remove_tag(connection, repository.id, tag.name)
        listed = self._listed(connection, repository, view)
        for manifest in manifest_rows.of_repository(connection, repository.id).get().values():
            if manifest.digest not in listed:
                manifest_rows.remove(connection, repository.id, manifest.blob_id)
                memberships.remove(connection, repository.id, manifest.blob_id)

    def _listed(self, connection: Transaction, repository: RepositoryRow, view: StoredRepository) -> set[str]:
        """The manifests of the index and everything below them."""
        listed: set[str] = set()
        waiting: list[str] = list(view.index.manifests())
        while waiting:
            digest = waiting.pop()
            if digest not in listed:
                listed.add(digest)
                waiting.extend(manifest_rows.children_of(connection, repository.id, digest).get())
        return listed

    def _put_back(self, connection: Transaction, repository: RepositoryRow, view: StoredRepository) -> None:
        """Record again what another tool's index has lost."""
        tags, manifests = view.index.tags(), view.index.manifests()
        known = manifest_rows.of_repository(connection, repository.id).get()
        lost_tags: dict[str, list[str]] = {}
        for tag in manifest_rows.all_tags(connection, repository.id).get().values():
            if tag.name not in tags:
                lost_tags.setdefault(tag.digest, []).append(tag.name)
        lost = [digest for digest in known if Digest(digest) not in manifests]
        if not (lost_tags or lost):
            return
        pushed = manifest_rows.pushed(connection, repository.id)
        tagged = manifest_rows.tagged(connection, repository.id)
        times = _Times(pushed.get(), tagged.get())
        for digest in dict.fromkeys([*lost_tags, *lost]):
            self._record_again(connection, repository, known[digest], lost_tags.get(digest, []), times)

    def _record_again(
        self,
        connection: Transaction,
        repository: RepositoryRow,
        manifest: ManifestRow,
        tags: list[str],
        times: _Times,
    ) -> None:
        change = Change.put(Digest(manifest.digest), manifest.media_type, manifest.size, tags, actor="reconciliation")
        pushed, tagged = to_text(times.pushed[manifest.digest]), {tag: to_text(times.tagged[tag]) for tag in tags}
        replace(change, pushed=pushed, tagged=tagged).allot(connection, repository, self._backends.clock())
