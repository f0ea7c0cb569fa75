"""Blob discovery: blobs that storage has and no row knows become members, unverified until they are hashed (I6).

Tests: ``tests/images/records/test_reconciliation.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs, changes, memberships, references, repositories, withheld
from registry.images.omissions import LINK, Kind, Omission
from registry.images.records.journal import understood
from registry.oci.digest import SUPPORTED_ALGORITHMS, Digest
from registry.oci.errors import RegistryError
from registry.parallel import map_parallel
from registry.storage.errors import PathNotFound, PathRefused

if TYPE_CHECKING:
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.records.repository_reader import StoredRepository
    from registry.storage.driver import ObjectStat

BATCH = 500
"""Blobs adopted in one transaction."""


class BlobDiscovery:
    """Any thread, any process; adopting twice is harmless."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def adopt(self, repository: RepositoryRow, view: StoredRepository) -> None:
        """Make members of the blobs that storage has for this repository, as unverified ones."""
        found = (
            self._found_on_disk(repository, view)
            if self._backends.layout.per_repository
            else self._referenced(repository, view)
        )
        found.sort()  # two that adopt some of the same take their rows in one order
        for start in range(0, len(found), BATCH):
            self._adopt(repository, found[start : start + BATCH], view.omissions)

    def adopt_optional(self, repository: RepositoryRow) -> list[Omission]:
        """Make members of the blobs that its manifests name, need not have, and that no row withholds (I12, I13).

        As ``adopt`` does for manifests that are new to the database: one that a release before this one has filled
        lacks them. The rows of the repository say by now what its records withhold. Returns what could not be taken.
        """
        omissions: list[Omission] = []
        if self._backends.layout.per_repository:
            return omissions  # what lies there is its own, and was found
        after = ""
        while True:
            with self._backends.database.autocommit() as connection:
                found = references.lacking(connection, repository.id, after=after, count=BATCH).get()
            if not found:
                return omissions
            self._adopt(repository, found, omissions, is_optional=True)
            after = found[-1]

    def _adopt(
        self, repository: RepositoryRow, digests: list[Digest], omissions: list[Omission], *, is_optional: bool = False
    ) -> None:
        driver, layout, now = self._backends.driver, self._backends.layout, self._backends.clock()
        known = self._known(digests)
        new = [digest for digest in digests if digest not in known]
        keys = [layout.blob(repository.name, digest) for digest in new]
        stats = dict(zip(new, map_parallel(driver.capabilities, self._stat, keys), strict=True))
        with self._backends.database.transaction() as connection:
            if is_optional:
                digests = self._still_lacking(connection, repository, digests)
            else:
                repositories.lock_shared(connection, repository.id)  # before blobs, as a push does
            for digest in digests:
                if digest in known:
                    memberships.add(connection, repository.id, known[digest], now=now)
                    continue
                stat = stats[digest]
                if stat is None:
                    continue
                blob = blobs.adopt(connection, digest, size=stat.size)
                if blob.size != stat.size or blob.state == blobs.CLAIMED:
                    reason = f"it has {stat.size} bytes, elsewhere {blob.size}, or is being deleted"
                    omissions.append(Omission(Kind.BLOB, repository.name, digest, reason))
                    continue
                key = layout.blob(repository.name, digest)
                blob_locations.adopt(
                    connection, blob.id, store=driver.name, key=key, size=stat.size, signature=stat.signature
                )
                memberships.add(connection, repository.id, blob.id, now=now)

    def _still_lacking(self, connection: Transaction, repository: RepositoryRow, digests: list[Digest]) -> list[Digest]:
        """Those that no manifest which came meanwhile withholds. The repository is locked from here on."""
        if repositories.lock(connection, repository.id).get() is None:
            return []
        repositories.raise_version(connection, repository.id)
        named = withheld.named(connection, repository.id, digests).get()
        return [digest for digest in digests if (digest, withheld.BLOB) not in named]

    def _known(self, digests: list[Digest]) -> dict[str, int]:
        """Those that need not be looked for, by digest: all repositories share all locations, and one is noted."""
        if self._backends.layout.per_repository:
            return {}
        with self._backends.database.autocommit() as connection:
            return blob_locations.known(connection, digests, store=self._backends.driver.name).get()

    def _stat(self, key: str) -> ObjectStat | None:
        try:
            return self._backends.driver.stat(key)
        except PathNotFound:
            return None

    def _found_on_disk(self, repository: RepositoryRow, view: StoredRepository) -> list[Digest]:
        """Blobs in the repository's directory of which nothing is noted."""
        found = []
        for algorithm in SUPPORTED_ALGORITHMS:
            prefix = self._backends.layout.blobs(repository.name, algorithm)
            with self._backends.database.snapshot() as connection:
                noted = blob_locations.keys_below(connection, self._backends.driver.name, prefix).get()
            try:
                children = list(self._backends.driver.children(prefix))
            except PathRefused as error:
                view.omissions.append(Omission(Kind.BLOB, repository.name, f"blobs/{algorithm}", error.reason))
                continue
            for child in children:
                if child.is_prefix or f"{prefix}/{child.name}" in noted:
                    continue
                try:
                    digest = Digest.parse(f"{algorithm}:{child.name}")
                except RegistryError:
                    continue  # not a blob; a temporary name of another tool
                if child.is_link:
                    view.omissions.append(Omission(Kind.BLOB, repository.name, digest, LINK))
                else:
                    found.append(digest)
        return found

    def _referenced(self, repository: RepositoryRow, view: StoredRepository) -> list[Digest]:
        """Blobs that the manifests reference, and the manifests, where all repositories share one location.

        What is withheld is not among them (I12).
        """
        wanted: dict[Digest, None] = {}
        withheld = view.withheld.blobs
        for digest, loaded in view.manifests.items():
            wanted[digest] = None
            named = (blob.digest for blob in loaded.manifest.named_blobs())
            wanted.update(dict.fromkeys(blob for blob in named if blob not in withheld))
        with self._backends.database.snapshot() as connection:
            wanted.update(dict.fromkeys(self._come_since(connection, repository, view)))
            members = memberships.find_all(connection, repository.id, wanted).get()
        return [digest for digest in wanted if digest not in members]

    def _come_since(
        self, connection: Transaction, repository: RepositoryRow, view: StoredRepository
    ) -> frozenset[Digest]:
        """What a row withholds, and neither storage nor a change that is committed does.

        The record of such a change may not be on storage yet: its rows are no proof that anything has come.
        """
        current = repositories.get(connection, repository.id).get()
        if current is None or current.folded_sequence != repository.folded_sequence:
            return frozenset()  # the rows are newer than the view, which is read again
        rows = withheld.of_repository(connection, repository.id, named=True).get()
        noted = withheld.collected(rows).blobs - view.withheld.blobs
        if not noted:
            return noted
        unfolded = changes.of_repository(connection, repository.id).get() if view.last <= current.sequence else []
        pending = (understood(repository.name, change.record) for change in unfolded if change.sequence > view.folded)
        return noted - view.withheld_with(pending).blobs
