"""One blob of the original becomes an object of ours, and nothing is believed of either that was not hashed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blob_locations as place_rows
from registry.database import blobs as blob_rows
from registry.database import migration_queries
from registry.database.migration_queries import ORIGINAL, Copied
from registry.images.blob_locations import Location
from registry.images.verification import hash_reader
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound, PreconditionFailed, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.blob_locations import PlaceRow
    from registry.database.blobs import BlobRow
    from registry.database.migration_queries import UncopiedRow
    from registry.images.registry import Registry

POLL = 0.05
"""Seconds between two looks at a deletion in progress."""
LOOKS = 100
"""Of them."""
ATTEMPTS = 5
"""How often an original may be replaced between our look at it and the copy."""


class Hashed(NamedTuple):
    """An original that was found right."""

    place: PlaceRow
    """As it was noted."""
    signature: str
    """Of the object with these bytes."""


@dataclass(frozen=True, slots=True)
class CopiedBlob:
    """What became of one blob."""

    digest: Digest
    size: int
    """Bytes."""
    generation: int
    """Of the blob before anything was copied: raised by whoever deletes our object meanwhile."""
    copied: Copied | None = None
    """None: no place has the bytes any more, or our object was deleted meanwhile."""
    hashed: Hashed | None = None


class _WrongBytes(Exception):
    """An object does not have the bytes of its digest."""


class Copier:
    """Any thread, beside pushes and deletions of the same blobs.

    What is copied over our place was hashed at the signature that the copy is bound to, so that whatever comes late or
    twice, right bytes replace right bytes. A copy counts once it was read and hashed itself.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._driver = registry.backends.driver
        self._database = registry.backends.database

    def copy(self, row: UncopiedRow) -> CopiedBlob:
        """Copy a blob from its first source location with the right bytes, and mark other locations lost.

        Raises StorageError. Nothing counts before ``commit``.
        """
        copy = CopiedBlob(Digest(row.digest), row.size, -1)
        blob = self._wait_for_deleters(copy.digest)
        if blob is None:
            return copy
        copy = replace(copy, generation=blob.generation)
        with self._database.autocommit() as connection:
            found = place_rows.of_blob(connection, row.blob_id, store=self._driver.name).get()
        for place in found:
            if place.state != ORIGINAL:
                continue
            try:
                return self._from(place, copy)
            except PathNotFound:
                self._lose(copy, place, blob_rows.MISSING)
            except _WrongBytes:
                self._lose(copy, place, blob_rows.QUARANTINED)
        return copy

    def commit(self, copies: Sequence[CopiedBlob]) -> int:
        """Note them, in one transaction. Returns how many count; the others were deleted while they were copied."""
        backends, store = self._registry.backends, self._driver.name
        now = backends.clock()
        with self._database.transaction() as connection:
            looks = [
                (copy, blob_rows.lock_at(connection, copy.digest, store=store, key=copy.copied.key), copy.copied)
                for copy in sorted(copies, key=lambda copy: copy.digest)
                if copy.copied is not None
            ]
            right = [copied for copy, look, copied in looks if _is_unmoved(copy, look.get()[0])]
            refused = migration_queries.set_copied(connection, right, store=store, now=now)
            for copy in copies:
                if copy.hashed is not None:
                    place, signature = copy.hashed
                    place_rows.set_verified(connection, place.id, was=place.signature, signature=signature, now=now)
        return len(right) - len(refused)

    def _wait_for_deleters(self, digest: Digest) -> BlobRow | None:
        """The blob, once nobody is about to delete what we would put there; None where that takes long, or it is gone.

        Who begins to delete it later raises its generation.
        """
        key = self._registry.backends.layout.blob("", digest)
        for _ in range(LOOKS):
            with self._database.autocommit() as connection:
                blob, there = blob_rows.at(connection, digest, store=self._driver.name, key=key).get()
            if not self._registry.blob_deletion.in_progress(blob, there):
                return blob
            time.sleep(POLL)
        return None

    def _from(self, place: PlaceRow, copy: CopiedBlob) -> CopiedBlob:
        """Raises PathNotFound or _WrongBytes where this original is not what it should be."""
        known = place.signature if place.verified_at is not None else None
        for _ in range(ATTEMPTS):
            signature = known or self._hash(place.key, copy)[0]
            target = self._registry.backends.layout.blob("", copy.digest)
            try:
                self._driver.copy(place.key, target, size=copy.size, if_signature=signature)
            except PreconditionFailed:
                known = None  # replaced since: what it is now has to be hashed
                continue
            return self._checked(copy, target, Hashed(place, signature))
        raise StorageUnavailable(place.key, "it is replaced again and again")

    def _checked(self, copy: CopiedBlob, target: str, source: Hashed) -> CopiedBlob:
        """A copy that was read. Raises _WrongBytes, PathNotFound where its source is to blame."""
        try:
            signature, size = self._hash(target, copy)
        except PathNotFound:
            return copy  # somebody has deleted the blob: it is no member any more, or comes again
        except _WrongBytes as error:
            self._hash(source.place.key, copy)
            raise StorageUnavailable(target, "the store copied other bytes than it has") from error
        return CopiedBlob(copy.digest, size, copy.generation, Copied(copy.digest, size, target, signature), source)

    def _hash(self, key: str, copy: CopiedBlob) -> tuple[str, int]:
        """Signature and size of an object that has the right bytes. Raises PathNotFound, _WrongBytes."""
        with self._driver.open(key) as reader:
            if reader.stat.size != copy.size or hash_reader(reader, copy.digest.algorithm) != copy.digest:
                raise _WrongBytes
            return reader.stat.signature, reader.stat.size

    def _lose(self, copy: CopiedBlob, place: PlaceRow, state: str) -> None:
        noted = Location(place.key, place.id, place.signature, place.verified_at is not None)
        self._registry.blob_locations.mark_lost_and_next(copy.digest, copy.size, noted, state)


def _is_unmoved(copy: CopiedBlob, blob: BlobRow | None) -> bool:
    """Whether nobody has begun to delete our object since the copy began."""
    return blob is not None and blob.generation == copy.generation
