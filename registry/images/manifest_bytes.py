"""The exact bytes of manifests (I5): on storage and, where a look at storage is dear, in the database as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blobs as blob_rows
from registry.database import manifest_bodies as body_rows
from registry.database import repositories as repository_rows
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from registry.database.transaction import Transaction
    from registry.images.manifests import FoundManifest
    from registry.images.stores import Stores

KEPT = 256 << 10
"""Bytes of the largest manifest that the database keeps."""


class ManifestBytes:
    """Any thread, any process: what one has read or pushed, every other reads without a call to storage."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def read(self, manifest: FoundManifest) -> bytes:
        """The bytes, compared with their digest. Raises ManifestUnknown when they are lost."""
        kept = self._is_kept(manifest.size)
        if kept:
            with self._stores.database.look() as connection:
                body = body_rows.find(connection, manifest.digest)
            if body is not None and _is_right(body, manifest.digest):
                return body
        try:
            body, _ = self._stores.driver.read(manifest.key, max_bytes=manifest.size)
        except (PathNotFound, ObjectTooLarge) as error:
            raise self._lost(manifest) from error
        if not _is_right(body, manifest.digest):
            raise self._lost(manifest)
        if kept:
            with self._stores.database.write() as connection:
                body_rows.keep(connection, manifest.digest, body)
        return body

    def note(self, connection: Transaction, blob_id: int, body: bytes) -> None:
        """Keep the bytes of a manifest in the transaction that puts it."""
        if self._is_kept(len(body)):
            body_rows.put(connection, blob_id, body)

    def _is_kept(self, size: int) -> bool:
        return size <= KEPT and not self._stores.driver.capabilities.cheap_stat

    def _lost(self, manifest: FoundManifest) -> ManifestUnknown:
        """Remember the loss where a look costs a request (I6)."""
        if not self._stores.driver.capabilities.cheap_stat:
            with self._stores.database.write() as connection:
                repository_rows.raise_versions_of_holders(connection, manifest.digest)
                blob = blob_rows.lock(connection, manifest.digest)
                if blob is not None:
                    blob_rows.set_state(connection, blob.id, blob_rows.MISSING)
        return ManifestUnknown("the bytes of the manifest are missing or damaged on storage; push it again")


def _is_right(body: bytes, digest: Digest) -> bool:
    return Digest.of(body, digest.algorithm) == digest
