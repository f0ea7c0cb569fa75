"""First reading: the rows of a repository that was never read, however large it is, in short transactions.

Nothing is served from them before the last transaction of the reconciliation says that the repository was read.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from registry.database import manifests, memberships, references, repositories, tags
from registry.images.records.manifest_rows import ManifestRows
from registry.oci.digest import Digest
from registry.oci.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.records.blob_discovery import BlobDiscovery
    from registry.images.records.repository_reader import LoadedManifest, RepositoryReader, StoredRepository

PAGE = 16
"""Rows of manifests or tags that one transaction writes."""
PAGE_BYTES = 256 << 10
"""Bytes of the manifests of a page, but for a single one that is larger: they say how much they name."""


class Moved(Exception):
    """The database changed while storage was read."""


class FirstReading:
    """Any thread, any process. Several at once for one repository are harmless: the first that ends it decides.

    Killed in the middle, it goes on behind the manifests whose rows are there.
    """

    def __init__(self, backends: Backends, reader: RepositoryReader, discovery: BlobDiscovery) -> None:
        self._backends = backends
        self._reader = reader
        self._discovery = discovery

    def run(self, repository: RepositoryRow, known: Mapping[str, ManifestRow], view: StoredRepository) -> None:
        """Write the rows of manifests and tags. ``known`` are those that an earlier attempt has left.

        The records of ``view`` are in its index afterwards. Raises Moved, StorageError.
        """
        self._discovery.adopt_found(repository, view)
        for line in view.records.values():
            Record.parse(line).apply(view.index)
        for page in self._pages(repository, known, view):
            self._discovery.adopt_named(repository, view, page)
            with self._backends.database.transaction(durable=False) as connection:
                self._lock(connection, repository)
                ManifestRows(self._backends, connection, repository.id, view).write(page)
        if known:
            self._correct(repository, known, view)
        self._write_tags(repository, view)

    def _pages(
        self, repository: RepositoryRow, known: Mapping[str, ManifestRow], view: StoredRepository
    ) -> Iterator[dict[Digest, LoadedManifest]]:
        deleted = {record.digest for record in map(Record.parse, view.records.values()) if record.operation == "delete"}
        deleted -= view.index.manifests().keys()
        page: dict[Digest, LoadedManifest] = {}
        size = 0
        for digest, loaded in self._reader.each_manifest(repository.name, known, view, below=True):
            if digest in deleted:
                continue
            if page and (len(page) == PAGE or size + loaded.size > PAGE_BYTES):
                yield page
                page, size = {}, 0
            page[digest] = loaded
            size += loaded.size
        if page:
            yield page

    def _lock(self, connection: Transaction, repository: RepositoryRow) -> None:
        """Raises Moved where another process has ended the reading, or forgotten the repository."""
        current = repositories.lock(connection, repository.id).get()
        if current is None or not current.is_unread:
            raise Moved

    def _correct(self, repository: RepositoryRow, known: Mapping[str, ManifestRow], view: StoredRepository) -> None:
        """Have what an earlier attempt has left as storage has it now."""
        listed = self._listed(repository, view)
        gone = [row for digest, row in known.items() if digest not in listed]
        times = {row.blob_id: view.index.pushed(Digest(digest)) for digest, row in known.items() if digest in listed}
        said = [(blob_id, at) for blob_id, at in times.items() if at is not None]
        with self._backends.database.snapshot() as connection:
            left = tags.of_repository(connection, repository.id).get()
        named = view.index.tags()
        lost = [tag for tag in left if tag not in named]
        for start in range(0, max(len(gone), len(said), len(lost)), PAGE):
            with self._backends.database.transaction(durable=False) as connection:
                self._lock(connection, repository)
                for tag in lost[start : start + PAGE]:
                    tags.remove(connection, repository.id, tag)
                for row in gone[start : start + PAGE]:
                    manifests.remove(connection, repository.id, row.blob_id)
                    if not self._backends.layout.per_repository:  # else what lies in its directory is its own
                        memberships.remove(connection, repository.id, row.blob_id)
                manifests.set_pushed(connection, repository.id, said[start : start + PAGE])

    def _listed(self, repository: RepositoryRow, view: StoredRepository) -> set[str]:
        """The manifests of the index and everything below them."""
        listed: set[str] = set()
        waiting: list[str] = list(view.index.manifests())
        with self._backends.database.autocommit() as connection:
            children = references.children_by_digest(connection, repository.id).get()
        while waiting:
            digest = waiting.pop()
            if digest not in listed:
                listed.add(digest)
                waiting.extend(children.get(digest, ()))
        return listed

    def _write_tags(self, repository: RepositoryRow, view: StoredRepository) -> None:
        """A tag of which no time is known has that of its manifest."""
        waiting = iter(view.index.tags().items())
        while page := dict(islice(waiting, PAGE)):
            digests = [descriptor.digest for descriptor in page.values()]
            with self._backends.database.transaction(durable=False) as connection:
                self._lock(connection, repository)
                targets = manifests.targets(connection, repository.id, digests).get()
                for tag, descriptor in page.items():
                    target = targets.get(descriptor.digest)
                    if target is not None:
                        blob_id, pushed_at = target
                        tagged_at = view.index.tagged(tag) or pushed_at
                        tags.put(connection, repository.id, tag, blob_id, sequence=view.last, now=tagged_at)
