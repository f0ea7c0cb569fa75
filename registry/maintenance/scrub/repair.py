"""*Repair*: right bytes at a location that lost them, from another one that was read whole for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs, manifest_bodies, memberships, repositories
from registry.database.collection import scrub
from registry.images.publication.new_blob import NewBlob
from registry.maintenance.scrub.object_check import Verdict
from registry.oci.digest import Digest
from registry.oci.errors import BlobUnknown
from registry.storage.errors import PathNotFound, PreconditionFailed

if TYPE_CHECKING:
    from registry.database.collection.scrub import ScrubRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.publication.new_blob import Keep, Put, Write
    from registry.images.registry import Registry
    from registry.maintenance.scrub.object_check import ObjectCheck
    from registry.storage.driver import ObjectStat


class Repair:
    """For one thread. Objects of a source registry are read, and never written."""

    def __init__(self, registry: Registry, check: ObjectCheck) -> None:
        self._registry = registry
        self._backends = registry.backends
        self._check = check

    def shared(self, row: ScrubRow) -> bool:
        """Put the bytes of a lost location back, where repositories share it. False if no other one has them.

        Raises StorageError, DatabaseError, and Unavailable where no change may commit.
        """
        if row.migration is not None:
            return False
        with self._backends.database.autocommit() as connection:
            self._registry.write_gate.require_open(connection).get()
        return (self._copy(row) or self._write(row)) and self.is_right_again(row)

    def is_right_again(self, row: ScrubRow) -> bool:
        """Read a lost location, and serve it again if it is right. Raises as ``shared`` does."""
        if row.migration is not None:
            return False
        checked = self._check.check(row.key, row.digest, row.size)
        if checked.verdict is not Verdict.RIGHT:
            return False
        with self._backends.database.transaction() as connection:
            self._registry.write_gate.require_open(connection).get()
            return scrub.set_current(connection, row, etag=checked.etag, now=self._backends.clock())

    def own(self, repository: str, digest: Digest, size: int) -> bool:
        """Publish a blob of a repository anew, where each has its own, from that of another one. False if none has it.

        Raises as ``shared`` does.
        """
        source = self._right_one(digest, self._backends.layout.blob(repository, digest), size)
        if source is None:
            return False

        def put(key: str, *, replace: bool) -> ObjectStat:  # noqa: ARG001 - what is there is wrong, or gone
            return self._backends.driver.link(source, key)

        return self._published(repository, digest, size, put)

    def in_place(self, repository: str, digest: Digest, size: int) -> bool:
        """Publish the file that an operator has brought back to a blob's key, without a row. False if it is wrong.

        Raises as ``shared`` does.
        """
        checked = self._check.check(self._backends.layout.blob(repository, digest), digest, size)
        if checked.verdict is not Verdict.RIGHT:
            return False

        def put(key: str, *, replace: bool) -> ObjectStat:  # noqa: ARG001 - it is what it is
            stat = self._backends.driver.stat(key)
            if stat.etag != checked.etag:
                raise PathNotFound(key, "it was replaced since it was hashed")
            return stat

        return self._published(repository, digest, size, put)

    def _published(self, repository: str, digest: Digest, size: int, put: Put) -> bool:
        with self._backends.database.autocommit() as connection:
            row = repositories.find(connection, repository).get()
        if row is None:
            return False

        def commit(connection: Transaction, _keep: Keep) -> Write:
            """Raises BlobUnknown if a client has deleted the blob meanwhile: nothing gives it back then (I4)."""
            if memberships.find(connection, row.id, digest).get() is None:
                raise BlobUnknown
            return lambda _blob_id: None

        try:
            publication = self._registry.blob_publication
            publication.record(publication.publish(NewBlob(row, digest, size, put, commit)))
        except PathNotFound:
            return False
        except BlobUnknown:
            self._retract(row, digest)
            return False
        return True

    def _retract(self, repository: RepositoryRow, digest: Digest) -> None:
        """Delete a file that was put in vain: where other tools may write, it would become the repository's again."""
        driver, key = self._backends.driver, self._backends.layout.blob(repository.name, digest)
        try:
            stat = driver.stat(key)
        except PathNotFound:
            return
        with self._backends.database.transaction() as connection:
            blob = blobs.adopt(connection, digest, size=stat.size)
            blob_locations.adopt(connection, blob.id, store=driver.name, key=key, size=stat.size, etag=stat.etag)
        self._registry.blob_deletion.delete_unheld(repository, digest)

    def _right_one(self, digest: Digest, key: str, size: int) -> str | None:
        """The key of another location that was found right just now."""
        store = self._backends.driver.name
        with self._backends.database.autocommit() as connection:
            rows = blob_locations.of_digest(connection, digest, store=store).get()
        seen = set()
        for row in rows:
            if row.key == key or row.etag in seen or row.verified_at is None:
                continue
            seen.add(row.etag)
            if self._check.check(row.key, digest, size).verdict is Verdict.RIGHT:
                return row.key
        return None

    def _copy(self, row: ScrubRow) -> bool:
        driver = self._backends.driver
        if not driver.capabilities.copies:
            return False
        with self._backends.database.autocommit() as connection:
            others = scrub.of_blob(connection, row.blob_id, store=driver.name).get()
        for other in others:
            if other.key == row.key:
                continue
            checked = self._check.check(other.key, row.digest, row.size)
            if checked.verdict is not Verdict.RIGHT:
                continue
            try:
                driver.copy(other.key, row.key, size=row.size, if_etag=checked.etag)
            except (PathNotFound, PreconditionFailed):
                continue
            return True
        return False

    def _write(self, row: ScrubRow) -> bool:
        """A manifest, from the bytes that the database keeps of it."""
        with self._backends.database.autocommit() as connection:
            body = manifest_bodies.find(connection, row.digest).get()
        digest = Digest(row.digest)
        if body is None or Digest.of(body, digest.algorithm) != digest:
            return False
        self._backends.driver.write(row.key, body)
        return True
