"""*Stored parts*: what storage still has of what the trash needs: manifests, which are hashed, and bytes of blobs.

Tests: ``tests/images/trash/test_restoration.py``.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database import blob_locations, blobs
from registry.images.blob_locations import Location
from registry.oci.digest import Digest
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from registry.database.collection.trash import TrashRow
    from registry.database.repositories import RepositoryRow
    from registry.images.backends import Backends

LOOKS: Final = 3
"""How often the bytes of a blob may move to the trash, or back, while they are taken."""


class StoredBytes(NamedTuple):
    """Where the bytes of a blob were found."""

    digest: Digest
    size: int
    location: Location


class ManifestBody(NamedTuple):
    """A manifest as it was pushed."""

    digest: Digest
    media_type: str
    data: bytes


class StoredParts:
    """Any thread."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def find(self, repository: RepositoryRow, digest: Digest, size: int | None) -> StoredBytes | None:
        """Bytes of a digest that storage has, wherever, of the right size if that is known; they are not hashed again.

        Not those that were found wrong, and are still the same. The repository's own come first where it serves these.
        """
        driver, layout = self._backends.driver, self._backends.layout
        own = layout.blob(repository.name, digest)
        with self._backends.database.autocommit() as connection:
            blob = blobs.find(connection, digest).get()
            rows = blob_locations.of_digest(connection, digest, store=driver.name).get()
            noted = blob_locations.find(connection, driver.name, own).get()
        is_wrong = blob is not None and blob.state == blobs.QUARANTINED
        wrong = {(row.key, row.etag) for row in (noted, *rows) if is_wrong and row is not None}
        locations = [*map(Location.of, rows), Location(own)]
        if layout.per_repository:
            locations.sort(key=lambda location: location.key != own)
            locations += map(
                Location, [layout.trash(repository.name, digest), layout.leaving_trash(repository.name, digest)]
            )
        expected = {each for each in (size, blob.size if blob is not None else None) if each is not None}
        for location in locations:
            with contextlib.suppress(PathNotFound):
                stat = driver.stat(location.key)
                if expected <= {stat.size} and (location.key, stat.etag) not in wrong:
                    return StoredBytes(digest, stat.size, location)
        return None

    def manifest(self, repository: RepositoryRow, row: TrashRow) -> ManifestBody | None:
        """The bytes of a manifest of the trash, hashed; None if storage does not have the right ones."""
        for _ in range(LOOKS):
            found = self.find(repository, Digest(row.digest), None)
            if found is None:
                break
            with contextlib.suppress(PathNotFound, ObjectTooLarge):
                data, _ = self._backends.driver.read(found.location.key, max_bytes=row.size)
                if Digest.of(data, found.digest.algorithm) == found.digest:
                    return ManifestBody(found.digest, row.media_type, data)
                break
        return None
