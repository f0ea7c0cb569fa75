"""*Quarantine*: a location without the right bytes is taken out of service, and no other one of the same blob is.

Where repositories share one location its row says so. Where each has its own blobs the file system is the truth, for
each HEAD looks there: the file is moved out of the repository, by the deletion protocol (proposal 0011), so that no
release, other tool or new database serves it. In both ways a publisher that relied on the object repeats its step.

Tests: ``tests/maintenance/scrub/test_run.py``, ``tests/maintenance/scrub/test_races.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs, memberships, repositories
from registry.database.collection import scrub
from registry.images.layout import QUARANTINE
from registry.oci.digest import Digest
from registry.oci.errors import DigestInvalid
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from registry.database.collection.scrub import ScrubRow
    from registry.images.registry import Registry


class Quarantine:
    """Any thread, any process: two at once are harmless. Killed at any instant, it is done again or was done."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._backends = registry.backends

    def take_out(self, row: ScrubRow, state: str) -> bool:
        """Serve the object no more, as its row was read; without another location its blob is in ``state``.

        False, and nothing is done, if the bytes were published again, or the location is gone, since ``row`` was read.
        Raises StorageError, DatabaseError.
        """
        if self._backends.layout.per_repository:
            return self._move(row)
        with self._backends.database.transaction() as connection:
            return scrub.quarantine(connection, row, store=self._backends.driver.name, state=state)

    def _move(self, row: ScrubRow) -> bool:
        """Move a file out of its repository. It is linked first, so that a kill leaves it in both places."""
        driver, deletion = self._backends.driver, self._registry.blob_deletion
        kept = self._backends.layout.quarantine(row.key)
        try:
            driver.link(row.key, kept)
        except PathNotFound:
            return False
        with self._backends.database.transaction() as connection:
            repository = repositories.find(connection, repository_of(row.key)).get()
            if repository is not None:
                repositories.raise_version(connection, repository.id)
            blobs.lock(connection, row.digest)
            claim = deletion.claim(connection, row.blob_id, row.key) if scrub.is_as_read(connection, row) else None
        if claim is None:
            driver.delete([kept])
            return False
        deletion.delete(claim)  # if it is too late for that the job that finishes deletions does it
        return True

    def is_kept(self, key: str) -> bool:
        """Whether wrong bytes of this location are in quarantine. Raises StorageError."""
        try:
            self._backends.driver.stat(self._backends.layout.quarantine(key))
        except PathNotFound:
            return False
        return True

    def clear(self) -> int:
        """Delete files in quarantine whose repository has the right bytes again, or lacks the blob by now.

        Returns how many. Raises StorageError, DatabaseError.
        """
        if not self._backends.layout.per_repository:
            return 0
        cleared = 0
        for kept, _ in self._backends.driver.list(QUARANTINE):
            key = kept.removeprefix(f"{QUARANTINE}/")
            try:
                is_over = self._is_over(key, digest_of(key))
            except DigestInvalid:  # an operator's file
                continue
            if is_over:
                self._backends.driver.delete([kept])
                cleared += 1
        return cleared

    def _is_over(self, key: str, digest: Digest) -> bool:
        driver = self._backends.driver
        with self._backends.database.autocommit() as connection:
            repository = repositories.find(connection, repository_of(key)).get()
            if repository is None or memberships.find(connection, repository.id, digest).get() is None:
                return True
            row = blob_locations.find(connection, driver.name, key).get()
        if row is None or row.state not in blob_locations.READABLE:
            return False
        try:
            driver.stat(key)
        except PathNotFound:
            return False
        return True


def repository_of(key: str) -> str:
    """The repository of a blob's key, where each repository has its own blobs."""
    return key.rpartition("/blobs/")[0]


def digest_of(key: str) -> Digest:
    """The digest that the key of a blob says. Raises DigestInvalid."""
    algorithm, _, encoded = key.rpartition("/blobs/")[2].partition("/")
    return Digest.parse(f"{algorithm}:{encoded}")
