"""Bringing the database to what storage says of one repository: a first touch, another tool's writing, a rebuild.

Storage ahead of the database (I11): storage decides everything. The database up to date: what another tool added or
moved is taken, what it left out is put back, because a tool that read an older index would otherwise erase acknowledged
pushes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from registry.database import blobs as blob_rows
from registry.database import changes as change_rows
from registry.database import manifests as manifest_rows
from registry.database import repositories as repository_rows
from registry.images import manifest_rows as rows
from registry.images.changing import Change
from registry.oci.digest import SUPPORTED_ALGORITHMS, Digest
from registry.oci.errors import ManifestInvalid, RegistryError
from registry.oci.index import LAYOUT_FILE, Index
from registry.oci.manifest import parse_manifest
from registry.oci.record import Record
from registry.storage.errors import AlreadyExists, ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.journal import Journal
    from registry.images.stores import Stores
    from registry.oci.descriptor import Descriptor
    from registry.oci.manifest import Manifest

MAX_INDEX = 1 << 30
"""Bytes of the largest ``index.json`` that is read."""
ATTEMPTS = 10
"""How often the database may move while storage is read."""
BATCH = 500
"""Blobs adopted in one transaction."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _View:
    """What storage says of a repository at one moment."""

    index: Index
    """As it is on storage, until ``_merge`` applies the records."""
    signature: str
    folded: int
    """The last record that the writer of ``index.json`` had seen."""
    records: dict[int, bytes]
    """Those after ``folded``."""
    manifests: dict[Digest, tuple[Manifest, int]] = field(default_factory=dict)
    """Read and verified: (manifest, size)."""

    @property
    def last(self) -> int:
        return max(self.records, default=self.folded)


class _Moved(Exception):
    """The database changed while storage was read."""


class Reconciliation:
    """Any thread, any process; several at once for one repository are harmless."""

    def __init__(self, stores: Stores, journal: Journal) -> None:
        self._stores = stores
        self._journal = journal

    def reconcile(self, name: str) -> RepositoryRow | None:
        """The row of the repository after the database agrees with storage; None when neither knows it.

        Raises StorageError or ManifestInvalid (an unreadable index) with nothing written.
        """
        for _ in range(ATTEMPTS):
            with self._stores.database.read() as connection:
                row = repository_rows.find(connection, name)
                known = manifest_rows.of_repository(connection, row.id) if row else {}
            view = self._read(name)
            if view is None:
                if row is None:
                    return None
                if not self._has_remains(name):
                    self.forget(row)
                    return None
                self._restore_index(name)
                continue
            try:
                return self._merge(name, row, known, view)
            except _Moved:
                continue
        message = f"repository {name} changes faster than it can be read"
        raise RegistryError(message)

    def forget(self, row: RepositoryRow) -> None:
        """Remove every row of a repository that storage does not have. If it comes back it is read anew."""
        stores = self._stores
        with stores.database.write() as connection:
            repository_rows.lock(connection, row.id)
            repository_rows.remove(connection, row.id)
            if stores.layout.per_repository:
                blob_rows.forget_below(connection, stores.driver.name, f"{row.name}/blobs")
        log.warning("a repository is gone from storage and was forgotten", repository=row.name)

    def _has_remains(self, name: str) -> bool:
        """Whether storage has something of a repository whose index is missing."""
        children = self._stores.driver.children(name)
        return any(child.name in {"oci-layout", "blobs", ".journal"} for child in children)

    def _restore_index(self, name: str) -> None:
        """An empty index, into which records and rows are put back."""
        driver, layout = self._stores.driver, self._stores.layout
        for key, data in ((layout.marker(name), LAYOUT_FILE), (layout.index(name), Index.empty().serialise())):
            with contextlib.suppress(AlreadyExists):
                driver.write(key, data, if_absent=True)

    def _read(self, name: str) -> _View | None:
        try:
            data, stat = self._stores.driver.read(self._stores.layout.index(name), max_bytes=MAX_INDEX)
        except PathNotFound:
            return None
        index = Index.parse(data)
        return _View(index, stat.signature, index.folded, self._journal.after(name, index.folded))

    def _merge(self, name: str, row: RepositoryRow | None, known: dict[str, ManifestRow], view: _View) -> RepositoryRow:
        self._load_manifests(name, known, view)
        repository = row or self._create(name)
        self._adopt_blobs(repository, view)
        stores = self._stores
        with stores.database.write() as connection:
            current = repository_rows.lock(connection, repository.id)
            if current is None:
                raise _Moved
            if current.folded != repository.folded:
                raise _Moved
            # A number is committed before its record is written: only a copy that is older has not reached it by now.
            behind = view.last > current.sequence or (row is None and current.sequence == 0)
            self._apply_records(connection, current, view, behind=behind)
            self._write_manifests(connection, current, view)
            if behind:
                change_rows.remove_all(connection, current.id)
                self._drop_absent(connection, current, view)
            self._write_tags(connection, current, view)
            sequence = max(current.sequence, view.last)
            repository_rows.set_reconciled(
                connection, current.id, sequence=sequence, folded=view.folded, signature=view.signature
            )
            for number, line in view.records.items():
                change_rows.add(connection, current.id, number, line, state=change_rows.RECORDED, now=stores.clock())
            if not behind:
                self._put_back(connection, current, view)
            result = repository_rows.get(connection, current.id)
        log.info("repository reconciled with storage", repository=name, sequence=sequence, behind=behind)
        return result or repository

    # ---- reading

    def _load_manifests(self, name: str, known: dict[str, ManifestRow], view: _View) -> None:
        """Read, hash and parse every manifest that the database does not know, and the children of indexes."""
        named = view.index.manifests()
        for line in view.records.values():
            record = Record.parse(line)
            if record.descriptor is not None:
                named[record.descriptor.digest] = record.descriptor
            elif record.digest is not None:
                named.pop(record.digest, None)
        waiting: list[Descriptor] = [descriptor for digest, descriptor in named.items() if digest not in known]
        while waiting:
            descriptor = waiting.pop()
            if descriptor.digest in view.manifests or descriptor.digest in known:
                continue
            loaded = self._load(name, descriptor)
            if loaded is None:
                continue
            view.manifests[descriptor.digest] = loaded
            waiting.extend(loaded[0].children())

    def _load(self, name: str, descriptor: Descriptor) -> tuple[Manifest, int] | None:
        key = self._stores.layout.blob(name, descriptor.digest)
        try:
            body, _ = self._stores.driver.read(key, max_bytes=max(self._stores.rules.manifest_bytes, 8 << 20))
            return _verified_manifest(body, descriptor), len(body)
        except PathNotFound:
            return None  # sparse content, or named by a tool that has not written it yet
        except (ManifestInvalid, ObjectTooLarge) as error:
            log.warning("a manifest was left out", repository=name, digest=descriptor.digest, reason=str(error))
            return None

    # ---- writing

    def _apply_records(self, connection: Transaction, repository: RepositoryRow, view: _View, *, behind: bool) -> None:
        """Make the view's index what it will be when everything is folded.

        That includes changes that are committed and whose records another worker is only about to write: without them
        a tag or manifest that is being deleted would be found in the index, and taken for another tool's.
        """
        lines = dict(view.records)
        if not behind:
            changes = change_rows.of_repository(connection, repository.id)
            lines |= {change.sequence: change.record for change in changes if change.sequence > view.folded}
        records = [Record.parse(lines[sequence]) for sequence in sorted(lines)]
        for record in records:
            record.apply(view.index)
        left = view.index.manifests()
        for record in records:
            if record.operation == "delete" and record.digest is not None and record.digest not in left:
                view.manifests.pop(record.digest, None)

    def _create(self, name: str) -> RepositoryRow:
        with self._stores.database.write() as connection:
            return repository_rows.create(connection, name, signature="", now=self._stores.clock())

    def _adopt_blobs(self, repository: RepositoryRow, view: _View) -> None:
        """Make members of the blobs that storage has for this repository, as unverified ones."""
        found = (
            self._found_on_disk(repository)
            if self._stores.layout.per_repository
            else self._referenced(repository, view)
        )
        store, driver, layout = self._stores.driver.name, self._stores.driver, self._stores.layout
        for start in range(0, len(found), BATCH):
            batch = []
            for digest in found[start : start + BATCH]:
                try:
                    batch.append((digest, driver.stat(layout.blob(repository.name, digest))))
                except PathNotFound:
                    continue
            with self._stores.database.write() as connection:
                for digest, stat in batch:
                    blob = blob_rows.adopt(connection, digest, size=stat.size)
                    if blob.size != stat.size or blob.state == blob_rows.CLAIMED:
                        log.warning("a blob was left out", repository=repository.name, digest=digest, size=stat.size)
                        continue
                    key = layout.blob(repository.name, digest)
                    blob_rows.adopt_location(
                        connection, blob.id, store=store, key=key, size=stat.size, signature=stat.signature
                    )
                    blob_rows.join(connection, repository.id, blob.id, now=self._stores.clock())

    def _found_on_disk(self, repository: RepositoryRow) -> list[Digest]:
        """Blobs in the repository's directory of which nothing is noted."""
        found = []
        for algorithm in SUPPORTED_ALGORITHMS:
            prefix = self._stores.layout.blobs(repository.name, algorithm)
            with self._stores.database.read() as connection:
                noted = blob_rows.keys_below(connection, self._stores.driver.name, prefix)
            for child in self._stores.driver.children(prefix):
                if child.is_prefix or f"{prefix}/{child.name}" in noted:
                    continue
                try:
                    found.append(Digest.parse(f"{algorithm}:{child.name}"))
                except RegistryError:
                    continue  # not a blob; a temporary name of another tool
        return found

    def _referenced(self, repository: RepositoryRow, view: _View) -> list[Digest]:
        """Blobs that the manifests reference, and the manifests, where all repositories share one place."""
        wanted: dict[Digest, None] = {}
        for digest, (manifest, _) in view.manifests.items():
            wanted[digest] = None
            wanted.update(dict.fromkeys(blob.digest for blob in manifest.blobs()))
        with self._stores.database.read() as connection:
            members = blob_rows.members(connection, repository.id, wanted)
        return [digest for digest in wanted if digest not in members]

    def _write_manifests(self, connection: Transaction, repository: RepositoryRow, view: _View) -> None:
        members = blob_rows.members(connection, repository.id, view.manifests)
        for digest, (manifest, _) in view.manifests.items():
            member = members.get(digest)
            if member is None:
                continue
            rows.note(connection, repository.id, member.id, manifest, now=self._stores.clock())
            place = blob_rows.location_at(
                connection, self._stores.driver.name, self._stores.layout.blob(repository.name, digest)
            )
            if place is not None:
                blob_rows.set_verified(connection, place.id, now=self._stores.clock())

    def _write_tags(self, connection: Transaction, repository: RepositoryRow, view: _View) -> None:
        """Take the tags of the index, in which the records of ours are applied."""
        ours = manifest_rows.all_tags(connection, repository.id)
        manifests = manifest_rows.of_repository(connection, repository.id)
        for tag, descriptor in view.index.tags().items():
            row, target = ours.get(tag), manifests.get(descriptor.digest)
            if target is None or (row is not None and row.digest == descriptor.digest):
                continue
            manifest_rows.put_tag(
                connection, repository.id, tag, target.blob_id, sequence=view.last, now=self._stores.clock()
            )
            if row is not None:
                log.warning("another tool moved a tag", repository=repository.name, tag=tag, digest=descriptor.digest)

    def _drop_absent(self, connection: Transaction, repository: RepositoryRow, view: _View) -> None:
        """The database is behind storage: what storage does not have is gone."""
        tags = view.index.tags()
        for tag in manifest_rows.all_tags(connection, repository.id).values():
            if tag.name not in tags:
                manifest_rows.remove_tag(connection, repository.id, tag.name)
        listed = self._listed(connection, repository, view)
        for manifest in manifest_rows.of_repository(connection, repository.id).values():
            if manifest.digest not in listed:
                manifest_rows.remove(connection, repository.id, manifest.blob_id)
                blob_rows.leave(connection, repository.id, manifest.blob_id)

    def _listed(self, connection: Transaction, repository: RepositoryRow, view: _View) -> set[str]:
        """The manifests of the index and everything below them."""
        listed: set[str] = set()
        waiting: list[str] = list(view.index.manifests())
        while waiting:
            digest = waiting.pop()
            if digest not in listed:
                listed.add(digest)
                waiting.extend(manifest_rows.children_of(connection, repository.id, digest))
        return listed

    def _put_back(self, connection: Transaction, repository: RepositoryRow, view: _View) -> None:
        """Record again what another tool's index has lost."""
        tags, manifests = view.index.tags(), view.index.manifests()
        known = manifest_rows.of_repository(connection, repository.id)
        lost_tags: dict[str, list[str]] = {}
        for tag in manifest_rows.all_tags(connection, repository.id).values():
            if tag.name not in tags:
                lost_tags.setdefault(tag.digest, []).append(tag.name)
        lost = [digest for digest in known if Digest(digest) not in manifests]
        for digest in dict.fromkeys([*lost_tags, *lost]):
            self._record_again(connection, repository, known[digest], lost_tags.get(digest, []))

    def _record_again(
        self, connection: Transaction, repository: RepositoryRow, manifest: ManifestRow, tags: list[str]
    ) -> None:
        change = Change.put(Digest(manifest.digest), manifest.media_type, manifest.size, tags, actor="reconciliation")
        change.allot(connection, repository, self._stores.clock())


def _verified_manifest(body: bytes, descriptor: Descriptor) -> Manifest:
    """The manifest that ``descriptor`` names. Raises ManifestInvalid when the bytes are others, or are none."""
    if Digest.of(body, descriptor.digest.algorithm) != descriptor.digest:
        raise ManifestInvalid("its bytes are not those of its digest")
    return parse_manifest(body, descriptor.media_type)
