"""*Repository usage*: the figures of one repository, from its rows, and on disk from its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import repositories
from registry.database.usage import blobs
from registry.maintenance.usage.figures import Figures
from registry.maintenance.usage.places import Places
from registry.maintenance.usage.quarantine_usage import QuarantineUsage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.database.usage.blobs import BlobUse, UsesById
    from registry.images.backends import Backends


class RepositoryUsage:
    """Any thread. What is pushed or deleted meanwhile may or may not be counted."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._store = backends.driver.name
        self._places = Places(backends)
        self._quarantine = QuarantineUsage(backends)

    def measure(self, repository_id: int, name: str) -> Figures:
        """The figures of a repository. Raises DatabaseError, StorageError."""
        figures = Figures(logical=self.logical(repository_id))
        for use in self._blobs(repository_id):
            figures.add(use, self._places.taken(name, use))
        figures.quarantine = self._quarantine.of_repository(repository_id, name)
        return figures

    def known(self, name: str) -> Figures | None:
        """The figures of the repository called ``name``; None if the database has none that was read."""
        with self._backends.database.autocommit() as connection:
            row = repositories.find(connection, name).get()
        return None if row is None or row.is_unread else self.measure(row.id, name)

    def logical(self, repository_id: int) -> int:
        """Its logical bytes alone. Raises DatabaseError."""
        total, after = 0, -1
        while True:
            with self._backends.database.autocommit() as connection:
                page = blobs.manifests(connection, repository_id, after=after).get()
                if page.last is None:
                    return total
                total += page.bytes
                total += blobs.named_bytes(connection, repository_id, after=after, last=page.last).get()
            after = page.last

    def _blobs(self, repository_id: int) -> Iterator[BlobUse]:
        for kind in (blobs.members, blobs.trashed_manifests):
            yield from self._by_id(repository_id, kind)
        yield from self._trashed_blobs(repository_id)

    def _by_id(self, repository_id: int, kind: UsesById) -> Iterator[BlobUse]:
        after = -1
        while True:
            with self._backends.database.autocommit() as connection:
                page = kind(connection, repository_id, store=self._store, after=after).get()
            yield from page
            if len(page) < blobs.PAGE:
                return
            after = page[-1].id

    def _trashed_blobs(self, repository_id: int) -> Iterator[BlobUse]:
        after = (-1, "")
        while True:
            with self._backends.database.autocommit() as connection:
                page = blobs.trashed_blobs(connection, repository_id, store=self._store, after=after).get()
            for manifest, use in page:
                after = manifest, use.digest
                yield use
            if len(page) < blobs.PAGE:
                return
