"""Trash recovery: the rows of the trash after a lost database, from the records of deletions (proposal 0013).

Tests: ``tests/images/trash/test_restoration.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import structlog

from registry.database import blob_locations, blobs, references
from registry.database.collection import trash
from registry.database.collection.trash import UNPROVEN, TrashReference, TrashRow
from registry.images.backends import MAX_MANIFEST
from registry.images.records.journal import Journal
from registry.oci.digest import Digest
from registry.oci.errors import RegistryError
from registry.oci.manifest import parse_manifest
from registry.oci.moment import to_seconds
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from registry.database.repositories import RepositoryRow
    from registry.images.backends import Backends
    from registry.oci.manifest import Manifest
    from registry.oci.record import Record
    from registry.storage.driver import ObjectStat

log = structlog.get_logger(__name__)


class TrashRecovery:
    """Any thread, any process; doing it twice is the same as once."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._journal = Journal(backends)

    def run(self, repository: RepositoryRow, last: int, *, there: Container[Digest]) -> int:
        """Make the rows of what was deleted within the window and is not ``there`` again. Returns how many.

        Records are read from ``last``, the last deletion, back to the window, and the manifests that they deleted. One
        whose bytes are gone, or are no manifest, is left out. The batch of a deletion that has begun, whose manifest is
        still there, is noted again (``trash.begin``). Raises StorageError.
        """
        made = 0
        for record in self._deletions(repository, last, there):
            digest = Digest(record.digest or "")
            found = self._read(repository.name, digest)
            if found is not None:
                self._write(repository, record, *found)
                made += 1
        return made

    def _deletions(self, repository: RepositoryRow, last: int, there: Container[Digest]) -> Iterator[Record]:
        """The last deletion of each manifest since the window began."""
        after, seen = self._backends.clock() - self._backends.policy.undelete_window, set[str]()
        is_wanted = last > 0 and self._backends.policy.undelete_window > 0
        for record in self._journal.backwards(repository.name, last + 1) if is_wanted else ():
            if _time(record) <= after:
                return
            if record.operation != "delete" or record.digest is None:
                continue
            if record.root is not None and record.root not in seen and record.root in there:
                seen.add(record.root)
                self._begin(repository, record.root, _batch(record))
            is_last = record.digest not in seen
            seen.add(record.digest)
            if is_last and record.digest not in there and not record.purged:
                yield record

    def _begin(self, repository: RepositoryRow, digest: Digest, batch: int) -> None:
        with self._backends.database.transaction() as connection:
            trash.begin(connection, repository.id, digest, batch=batch)

    def _read(self, name: str, digest: Digest) -> tuple[Manifest, ObjectStat, str] | None:
        layout = self._backends.layout
        own = layout.blob(name, digest)
        for key in (layout.trash(name, digest), own) if layout.per_repository else (own,):
            with contextlib.suppress(PathNotFound, ObjectTooLarge, RegistryError):
                body, stat = self._backends.driver.read(key, max_bytes=MAX_MANIFEST)
                if Digest.of(body, digest.algorithm) == digest:
                    return parse_manifest(body, None), stat, key
        log.info("a deleted manifest cannot be restored: its bytes are gone", repository=name, digest=digest)
        return None

    def _write(self, repository: RepositoryRow, record: Record, manifest: Manifest, stat: ObjectStat, key: str) -> None:
        lacked = None if record.lacked is None else set(record.lacked)
        with self._backends.database.transaction() as connection:
            blob = blobs.adopt(connection, record.digest or "", size=stat.size)
            if not self._backends.layout.per_repository:
                store = self._backends.driver.name
                blob_locations.adopt(connection, blob.id, store=store, key=key, size=stat.size, etag=stat.etag)
            row = TrashRow(
                blob.id,
                record.digest or "",
                stat.size,
                manifest.media_type,
                record.sequence,
                _batch(record),
                _time(record),
                record.tags,
            )
            named = [
                TrashReference(digest, kind if lacked is not None else UNPROVEN)
                for digest, kind in _named(manifest)
                if lacked is None or digest not in lacked
            ]
            trash.add(connection, repository.id, row, named)


def _batch(record: Record) -> int:
    return record.sequence if record.batch is None else record.batch


def _time(record: Record) -> float:
    return to_seconds(record.time) or 0.0


def _named(manifest: Manifest) -> Iterator[tuple[Digest, str]]:
    for child in manifest.children():
        yield child.digest, references.MANIFEST
    for blob in manifest.needed_blobs():
        yield blob.digest, references.BLOB
    for blob in manifest.named_blobs():
        yield blob.digest, references.OPTIONAL
