"""Manifest rows: those of manifests that were read from storage.

Tests: ``tests/images/records/test_reconciliation.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs, memberships
from registry.images import manifest_store
from registry.oci.moment import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.records.repository_reader import LoadedManifest, StoredRepository
    from registry.oci.digest import Digest


class ManifestRows:
    """In the caller's transaction, in which the repository is locked. For one thread. Blobs are members already."""

    def __init__(self, backends: Backends, connection: Transaction, repository_id: int, view: StoredRepository) -> None:
        self._backends = backends
        self._connection = connection
        self._id = repository_id
        self._view = view

    def write(self, loaded: Mapping[Digest, LoadedManifest]) -> None:
        """Make the rows of manifests whose bytes are members; the times are those of the index, else of the object."""
        members = memberships.find_all(self._connection, self._id, loaded).get()
        for digest in sorted(loaded):  # in the order in which other transactions take these rows
            member = members.get(digest)
            if member is not None:
                self._write(digest, member.id, loaded[digest])

    def _write(self, digest: Digest, blob_id: int, loaded: LoadedManifest) -> None:
        now = self._backends.clock()
        pushed_at = self._view.index.pushed(digest) or whole(now if loaded.modified is None else loaded.modified)
        manifest_store.note(self._connection, self._id, blob_id, loaded.manifest, now=pushed_at)
        blobs.lease(self._connection, blob_id, seconds=self._backends.policy.lease)
        if loaded.location is None:
            return
        store = self._backends.driver.name
        location = blob_locations.find(self._connection, store, loaded.location.key).get()
        if location is None:
            return
        own = self._backends.layout.per_repository
        was_growing = location.size != loaded.size and location.claim_token is None  # when it was adopted
        if own and was_growing:
            self._correct(digest, loaded, location.key)
        elif own or location.etag == loaded.etag:
            at = location.etag
            blob_locations.set_verified(self._connection, location.id, was=at, etag=at, now=now)

    def _correct(self, digest: Digest, loaded: LoadedManifest, key: str) -> None:
        blob_locations.put(
            self._connection,
            blobs.put(self._connection, digest, size=loaded.size, lease=0.0).get().id,
            store=self._backends.driver.name,
            key=key,
            size=loaded.size,
            etag=loaded.etag,
            verified_at=self._backends.clock(),
        )
