"""Blob placement: verified bytes get to their key, or a location that has them already is shared (I1, I6).

Tests: ``tests/images/publication/test_blob_publication.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blob_locations, blobs
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.images.backends import Backends
    from registry.images.blob_locations import Location
    from registry.images.publication.new_blob import NewBlob
    from registry.storage.driver import ObjectStat

SOURCES = 3
"""Places to try as the source of a link before the bytes that were uploaded are used."""


class Placed(NamedTuple):
    """Where the bytes are by now."""

    key: str
    stat: ObjectStat
    own: bool = False
    """They are of an inode of our own."""
    joined: bool = False
    """The location was noted before, and stays as it is."""


class BlobPlacement:
    """Any thread, any process. It writes no row that makes a blob a member."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    @property
    def shares(self) -> bool:
        """Whether repositories share inodes."""
        return self._backends.policy.dedupe and self._backends.driver.capabilities.links

    def put(self, key: str, blob: NewBlob, row: BlobRow | None, there: LocationRow | None) -> Placed:
        """Get the bytes to ``key``, unless another location that is verified will do."""
        driver, size = self._backends.driver, blob.size
        healthy = row if row is not None and row.state == blobs.PRESENT else None
        if healthy and there is not None and there.state in blob_locations.READABLE and there.verified_at is not None:
            try:
                stat = driver.stat(key)
            except PathNotFound:
                pass
            else:
                if stat.size == size and stat.etag == there.etag:
                    return Placed(key, stat)
        shared = self._shared(healthy, key, size)
        if shared is not None:
            return shared
        for other in self._others(healthy, key)[:SOURCES] if healthy else ():
            if other.verified_at is None or other.size != size:
                continue
            try:
                if self._is_as_noted(other):
                    return Placed(key, driver.link(other.key, key))
            except PathNotFound:
                continue
        # What is known and did not pass may be damaged, or be what a delete was sent for; an object without a row can
        # only have the wrong size.
        return Placed(key, blob.put(key, replace=row is not None), own=True)

    def join(self, source: Location | None, key: str, size: int) -> Placed | None:
        """Share a location that is noted, without an object of our own. Raises PathNotFound if it is not as noted.

        None if it is that of the key, whose row is written as for any other.
        """
        if source is None or source.id is None or self._backends.layout.per_repository:
            return None
        stat = self._backends.driver.stat(source.key)
        if stat.size == size and stat.etag == source.etag:
            return Placed(source.key, stat, joined=True)
        if source.key == key:
            return None
        raise PathNotFound(source.key, "it was replaced since it was noted")

    def converge(self, older: list[LocationRow], key: str) -> None:
        """Two publishers of one digest met: the later one replaces its inode by that of the earlier."""
        driver = self._backends.driver
        for location in older:
            try:
                if not self._is_as_noted(location):
                    continue
                etag = driver.link(location.key, key).etag
            except PathNotFound:
                continue  # it was deleted meanwhile
            with self._backends.database.transaction() as connection:
                blob_locations.set_etag(connection, store=driver.name, key=key, etag=etag)
            return

    def _shared(self, blob: BlobRow | None, key: str, size: int) -> Placed | None:
        """A verified location with another key, where repositories share locations: that of a source registry."""
        if blob is None or self._backends.layout.per_repository:
            return None
        with self._backends.database.autocommit() as connection:
            locations = blob_locations.of_blob(connection, blob.id, store=self._backends.driver.name).get()
        for location in locations:
            if location.key == key or location.verified_at is None or location.size != size:
                continue
            with contextlib.suppress(PathNotFound):
                stat = self._backends.driver.stat(location.key)
                if stat.size == size and stat.etag == location.etag:
                    return Placed(location.key, stat, joined=True)
        return None

    def _others(self, blob: BlobRow, key: str) -> list[LocationRow]:
        """Other locations with the same bytes."""
        if not self.shares:
            return []
        with self._backends.database.autocommit() as connection:
            locations = blob_locations.current_of_blob(connection, blob.id, self._backends.driver.name).get()
        return [location for location in locations if location.key != key]

    def _is_as_noted(self, location: LocationRow) -> bool:
        """Whether the object is the one whose bytes were known to be right. Raises PathNotFound."""
        stat = self._backends.driver.stat(location.key)
        return stat.size == location.size and stat.etag == location.etag
