"""Blob locations: which object with a blob's bytes is read, and what becomes of one that does not have them (I6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from registry.database import blob_locations, blobs, repositories
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from registry.database.blob_locations import LocationRow
    from registry.images.backends import Backends
    from registry.oci.digest import Digest

log = structlog.get_logger(__name__)


class Location(NamedTuple):
    """An object that should have the bytes of a blob."""

    key: str
    id: int | None = None
    """The id of its row; None if it has none."""
    etag: str = ""
    """As noted."""
    is_verified: bool = False
    """The object with this etag was hashed."""

    @classmethod
    def of(cls, row: LocationRow) -> Location:
        """The location of a row."""
        return cls(row.key, row.id, row.etag, row.verified_at is not None)


class BlobLocations:
    """Any thread, any process. Where each repository has its own blobs there is one location, that of its key."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def best(self, digest: Digest) -> Location | None:
        """Where a blob is read: verified locations first, ours before those of a source. None if none is noted."""
        return next(iter(self.all(digest)), None)

    def all(self, digest: Digest) -> list[Location]:
        """Every location that is noted, the best one first."""
        with self._backends.database.autocommit() as connection:
            rows = blob_locations.of_digest(connection, digest, store=self._backends.driver.name).get()
        return [Location.of(row) for row in rows]

    def mark_lost_and_next(self, digest: Digest, size: int, location: Location, state: str) -> Location | None:
        """Mark a location without the right bytes, so that it is not read again, and return the next one.

        None if there is no other: the blob is in ``state``, MISSING or QUARANTINED, until the next push, and no process
        remembers that it was there. Where a look is cheap, each HEAD sees a loss by itself and nothing is noted.
        """
        log.error("a blob is missing or damaged on storage", digest=digest, key=location.key)
        if self._backends.driver.capabilities.stat_is_local:
            return None
        if location.id is not None:
            with self._backends.database.transaction() as connection:
                repositories.raise_versions_of_holders(connection, digest)  # where the bytes are read is remembered
                blob_locations.set_lost(connection, location.id, etag=location.etag)
        return self.best(digest) or self._unlisted(digest, size, location) or self._give_up(digest, state)

    def note_verified(self, location: Location, etag: str) -> None:
        """Note that the object was hashed at ``etag`` and is right, unless the row has changed meanwhile."""
        if location.id is None:
            return
        now = self._backends.clock()
        with self._backends.database.transaction() as connection:
            blob_locations.set_verified(connection, location.id, was=location.etag, etag=etag, now=now)

    def _unlisted(self, digest: Digest, size: int, location: Location) -> Location | None:
        """Our own location, if it has an object that a restored or new database does not know."""
        driver, layout = self._backends.driver, self._backends.layout
        if layout.per_repository:
            return None
        key = layout.blob("", digest)
        with self._backends.database.autocommit() as connection:
            noted = blob_locations.find(connection, driver.name, key).get()
        if noted is not None or location.key == key:
            return None
        try:
            stat = driver.stat(key)
        except PathNotFound:
            return None
        if stat.size != size:
            return None
        with self._backends.database.transaction() as connection:
            blob = blobs.lock(connection, digest).get()
            if blob is None:
                return None
            blob_locations.adopt(connection, blob.id, store=driver.name, key=key, size=size, etag=stat.etag)
        return self.best(digest)

    def _give_up(self, digest: Digest, state: str) -> Location | None:
        """Mark the blob as lost; returns a location if it was put again meanwhile."""
        with self._backends.database.transaction() as connection:
            repositories.raise_versions_of_holders(connection, digest)
            blob = blobs.lock(connection, digest).get()
            if blob is None:
                return None
            left = blob_locations.of_blob(connection, blob.id, store=self._backends.driver.name).get()
            if not left:
                blobs.set_state(connection, blob.id, state)
        return Location.of(left[0]) if left else None
