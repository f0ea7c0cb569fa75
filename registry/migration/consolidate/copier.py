"""Copier: copies one blob from the source layout to ours. Both objects are hashed; a copy counts only after that.

Tests: ``tests/migration/consolidate/test_consolidate.py``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blob_locations, blobs, migration_queries
from registry.database.blob_locations import ORIGINAL
from registry.database.migration_queries import Copied
from registry.images.blob_locations import Location
from registry.images.verification import hash_reader
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound, PreconditionFailed, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.images.registry import Registry

POLL = 0.05
"""Seconds between two looks at a deletion in progress."""
LOOKS = 100
"""Looks at a deletion before the blob is left for the next round."""
ATTEMPTS = 5
"""How often a source object may be replaced between our look at it and the copy."""


class Hashed(NamedTuple):
    """A source location that was hashed and has the right bytes."""

    location: LocationRow
    """The row before."""
    etag: str
    """The version of the object that was hashed."""


@dataclass(frozen=True, slots=True)
class CopiedBlob:
    """What became of one blob."""

    digest: Digest
    size: int
    """Bytes."""
    generation: int
    """The generation of the blob before the copy; a deletion of our object meanwhile raises it."""
    copied: Copied | None = None
    """None if no location has the bytes any more, or our object was deleted meanwhile."""
    hashed: Hashed | None = None


class _WrongBytes(Exception):
    """An object does not have the bytes of its digest."""


class Copier:
    """Copies blobs. Any thread, beside pushes and deletions of the same blobs.

    The source was hashed at the etag that the copy is bound to, so that a copy that comes late or twice replaces
    right bytes by right bytes. A copy counts once it was read and hashed itself.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._driver = registry.backends.driver
        self._database = registry.backends.database

    def copy(self, row: BlobRow) -> CopiedBlob:
        """Copy a blob from its first source location with the right bytes, and mark other locations lost.

        Raises StorageError. Nothing counts before ``commit``.
        """
        copy = CopiedBlob(Digest(row.digest), row.size, -1)
        blob = self._wait_for_deleters(copy.digest)
        if blob is None:
            return copy
        copy = replace(copy, generation=blob.generation)
        with self._database.autocommit() as connection:
            found = blob_locations.of_blob(connection, row.id, store=self._driver.name).get()
        for location in found:
            if location.state != ORIGINAL:
                continue
            try:
                return self._from(location, copy)
            except PathNotFound:
                self._lose(copy, location, blobs.MISSING)
            except _WrongBytes:
                self._lose(copy, location, blobs.QUARANTINED)
        return copy

    def commit(self, copies: Sequence[CopiedBlob]) -> int:
        """Note copies, in one transaction. Returns how many count; the rest were deleted while they were copied."""
        backends, store = self._registry.backends, self._driver.name
        now = backends.clock()
        with self._database.transaction() as connection:
            looks = [
                (copy, blob_locations.lock_blob_at(connection, copy.digest, store=store, key=copied.key), copied)
                for copy in sorted(copies, key=lambda copy: copy.digest)
                if (copied := copy.copied) is not None
            ]
            right = [copied for copy, look, copied in looks if _is_unmoved(copy, look.get()[0])]
            refused = migration_queries.set_copied(connection, right, store=store, now=now)
            for copy in copies:
                if copy.hashed is not None:
                    location, etag = copy.hashed
                    blob_locations.set_verified(connection, location.id, was=location.etag, etag=etag, now=now)
        return len(right) - len(refused)

    def _wait_for_deleters(self, digest: Digest) -> BlobRow | None:
        """The blob, once no deletion of our object is in progress; None if that takes long, or the blob is gone.

        A deletion that begins later raises its generation.
        """
        key = self._registry.backends.layout.blob("", digest)
        for _ in range(LOOKS):
            with self._database.autocommit() as connection:
                blob, there = blob_locations.blob_at(connection, digest, store=self._driver.name, key=key).get()
            if not self._registry.blob_deletion.in_progress(there):
                return blob
            time.sleep(POLL)
        return None

    def _from(self, location: LocationRow, copy: CopiedBlob) -> CopiedBlob:
        """Copy from one location. Raises PathNotFound or _WrongBytes if its object is gone or has wrong bytes."""
        known = location.etag if location.verified_at is not None else None
        for _ in range(ATTEMPTS):
            etag = known or self._hash(location.key, copy)[0]
            target = self._registry.backends.layout.blob("", copy.digest)
            try:
                self._driver.copy(location.key, target, size=copy.size, if_etag=etag)
            except PreconditionFailed:
                known = None  # replaced since: what it is now has to be hashed
                continue
            return self._checked(copy, target, Hashed(location, etag))
        raise StorageUnavailable(location.key, "it is replaced again and again")

    def _checked(self, copy: CopiedBlob, target: str, source: Hashed) -> CopiedBlob:
        """Read and hash a copy. Raises _WrongBytes or PathNotFound if its source has wrong bytes or is gone."""
        try:
            etag, size = self._hash(target, copy)
        except PathNotFound:
            return copy  # a client has deleted the blob: it is no member any more, or comes again
        except _WrongBytes as error:
            self._hash(source.location.key, copy)
            raise StorageUnavailable(target, "the store copied other bytes than it has") from error
        return CopiedBlob(copy.digest, size, copy.generation, Copied(copy.digest, size, target, etag), source)

    def _hash(self, key: str, copy: CopiedBlob) -> tuple[str, int]:
        """Etag and size of an object that has the right bytes. Raises PathNotFound, _WrongBytes."""
        with self._driver.open(key) as reader:
            if reader.stat.size != copy.size or hash_reader(reader, copy.digest.algorithm) != copy.digest:
                raise _WrongBytes
            return reader.stat.etag, reader.stat.size

    def _lose(self, copy: CopiedBlob, location: LocationRow, state: str) -> None:
        self._registry.blob_locations.mark_lost_and_next(copy.digest, copy.size, Location.of(location), state)


def _is_unmoved(copy: CopiedBlob, blob: BlobRow | None) -> bool:
    """Whether no deletion of our object has begun since the copy began."""
    return blob is not None and blob.generation == copy.generation
