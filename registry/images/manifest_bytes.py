"""The exact bytes of manifests (I5): on storage and, where a look at storage is dear, in the database as well."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from registry.database import blobs as blob_rows
from registry.database import manifest_bodies as body_rows
from registry.images.locations import Location
from registry.images.verification import hash_reader
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.transaction import Transaction
    from registry.images.locations import Locations
    from registry.images.manifests import FoundManifest
    from registry.images.stores import Stores
    from registry.storage.driver import ObjectReader

T = TypeVar("T")

ATTEMPTS = 20
"""Places that are tried."""
KEPT = 256 << 10
"""Bytes of the largest manifest that the database keeps."""


class ManifestBytes:
    """Any thread, any process: what one has read or pushed, every other reads without a call to storage."""

    def __init__(self, stores: Stores, locations: Locations) -> None:
        self._stores = stores
        self._locations = locations

    def read(self, manifest: FoundManifest) -> bytes:
        """The bytes, compared with their digest. Raises ManifestUnknown when they are lost."""
        kept = self._is_kept(manifest.size)
        if kept:
            with self._stores.database.look() as connection:
                body = body_rows.find(connection, manifest.digest)
            if body is not None and _is_right(body, manifest.digest):
                return body
        body = self._read_storage(manifest)
        if kept:
            with self._stores.database.write() as connection:
                body_rows.keep(connection, manifest.digest, body)
        return body

    def note(self, connection: Transaction, blob_id: int, body: bytes) -> None:
        """Keep the bytes of a manifest in the transaction that puts it."""
        if self._is_kept(len(body)):
            body_rows.put(connection, blob_id, body)

    def _is_kept(self, size: int) -> bool:
        return size <= KEPT and not self._stores.driver.capabilities.stat_is_local

    def open(self, manifest: FoundManifest) -> ObjectReader:
        """A reader of the bytes, compared with their digest before: of a large one, which is never whole in memory.

        Raises ManifestUnknown when they are lost.
        """
        return self._from_places(manifest, lambda key: self._open_intact(key, manifest.digest))

    def _open_intact(self, key: str, digest: Digest) -> ObjectReader | None:
        with self._stores.driver.open(key) as proof:
            if hash_reader(proof, digest.algorithm) != digest:
                return None
            reader = self._stores.driver.open(key)
            if reader.stat.is_same(proof.stat):
                return reader
        reader.close()
        return None

    def _read_storage(self, manifest: FoundManifest) -> bytes:
        def read(key: str) -> bytes | None:
            body, _ = self._stores.driver.read(key, max_bytes=manifest.size)
            return body if _is_right(body, manifest.digest) else None

        return self._from_places(manifest, read)

    def _from_places(self, manifest: FoundManifest, read: Callable[[str], T | None]) -> T:
        """What ``read`` returns for the first place that has the bytes; None is one that has others."""
        place: Location | None = Location(manifest.key)
        if not self._stores.layout.per_repository:
            place = self._locations.best(manifest.digest) or place
        for _ in range(ATTEMPTS):
            if place is None:
                break
            with contextlib.suppress(PathNotFound, ObjectTooLarge):
                found = read(place.key)
                if found is not None:
                    return found
            place = self._locations.lost(manifest.digest, manifest.size, place, blob_rows.MISSING)
        raise ManifestUnknown("the bytes of the manifest are missing or damaged on storage; push it again")


def _is_right(body: bytes, digest: Digest) -> bool:
    return Digest.of(body, digest.algorithm) == digest
