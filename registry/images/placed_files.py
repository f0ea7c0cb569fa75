"""Placed files: bytes of blobs in a repository's directory that were not pushed here (design, "Outside writers").

Another tool placed them, or a power cut lost their rows. They are hashed before they are served, once.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import structlog

from registry.database import blob_locations, blobs, memberships, repositories
from registry.images.keyed_locks import KeyedLocks
from registry.images.publication.new_blob import NewBlob
from registry.images.verification import hash_object
from registry.oci.errors import BlobUnknown
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.database.repositories import RepositoryRow
    from registry.images.backends import Backends
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.publication.new_blob import Put
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat

REMEMBERED = 1000
"""Files with wrong bytes that a process does not hash again."""

log = structlog.get_logger(__name__)


class PlacedFiles:
    """Any thread, any process. Where no tool writes, there are none."""

    def __init__(self, backends: Backends, publication: BlobPublication) -> None:
        self._backends = backends
        self._publication = publication
        self._may_be_of_a_tool = backends.driver.capabilities.external_writers and backends.layout.per_repository
        self._verifying = KeyedLocks()
        self._wrong: dict[str, str] = {}  # etags, by key, of files that need not be hashed again

    def adopt(
        self, repository: RepositoryRow, digest: Digest, key: str, blob: BlobRow | None, noted: LocationRow | None
    ) -> bool:
        """Make a member of a file that is right and that ``blob`` and ``noted``, its rows, do not describe.

        False if there is none.
        """
        driver, backends = self._backends.driver, self._backends
        if not self._may_be_of_a_tool or not (blob is None or self._has_grown(blob, noted, key)):
            return False
        with contextlib.suppress(PathNotFound):  # absent, or deleted meanwhile
            stat = driver.stat(key)
            with backends.database.autocommit() as connection:
                leaving = blob is None and blob_locations.find(connection, driver.name, key).get() is not None
            if not leaving and self._is_right(repository, digest, key, stat):
                new = NewBlob(repository, digest, stat.size, self._unchanged(stat))
                self._publication.record(self._publication.publish(new))
                return True
        return False

    def _has_grown(self, blob: BlobRow, noted: LocationRow | None, key: str) -> bool:
        """Whether the file is not the one that was adopted: a tool was writing it then, and perhaps still is."""
        if noted is None or noted.key != key or noted.verified_at is not None:
            return False
        with contextlib.suppress(PathNotFound):
            return self._backends.driver.stat(key).size != blob.size
        return False

    def _is_right(self, repository: RepositoryRow, digest: Digest, key: str, stat: ObjectStat) -> bool:
        """Whether the file has the bytes of its name; a wrong one is hashed once. Raises PathNotFound."""
        with self._verifying.hold(key):
            if self._wrong.get(key) == stat.etag:
                return False
            if hash_object(self._backends.driver, key, digest) is not None:
                return True
            log.warning("a file is not what its name says", repository=repository.name, digest=digest)
            if len(self._wrong) >= REMEMBERED:
                self._wrong.clear()
            self._wrong[key] = stat.etag
            return False

    def _unchanged(self, hashed: ObjectStat) -> Put:
        """Finds the bytes that were hashed still in place, after the publisher has read the generation."""

        def in_place(key: str, *, replace: bool) -> ObjectStat:  # noqa: ARG001 - it is what it is
            stat = self._backends.driver.stat(key)
            if stat.etag != hashed.etag:
                raise PathNotFound(key, "it was replaced since it was hashed")
            return stat

        return in_place

    def verify(self, repository: RepositoryRow, digest: Digest, key: str) -> None:
        """Hash adopted bytes before they are served, once; wrong ones are quarantined (I6)."""
        store = self._backends.driver.name
        with self._verifying.hold(key):
            with self._backends.database.autocommit() as connection:
                location = blob_locations.find(connection, store, key).get()
            if location is None or location.verified_at is not None:
                return
            try:
                intact = hash_object(self._backends.driver, key, digest) is not None
            except PathNotFound as error:
                raise BlobUnknown from error
            if not intact:
                log.error("a blob has wrong bytes and is not served", repository=repository.name, digest=digest)
                self._quarantine(repository, digest, key)
                raise BlobUnknown("the bytes of the blob are damaged on storage; push it again")
            with self._backends.database.transaction() as connection:
                at, now = location.etag, self._backends.clock()
                blob_locations.set_verified(connection, location.id, was=at, etag=at, now=now)

    def _quarantine(self, repository: RepositoryRow, digest: Digest, key: str) -> None:
        """Serve these bytes no more. Where repositories have their own, only this one is concerned."""
        with self._backends.database.transaction() as connection:
            if self._backends.layout.per_repository:
                repositories.raise_version(connection, repository.id)
            else:
                repositories.raise_versions_of_holders(connection, digest)
            blob = blobs.lock(connection, digest).get()
            if blob is None:
                return
            if self._backends.layout.per_repository:
                memberships.remove(connection, repository.id, blob.id)
                blob_locations.forget(connection, store=self._backends.driver.name, key=key)
            else:
                blobs.set_state(connection, blob.id, blobs.QUARANTINED)
