"""Blob discovery: blobs that storage has and no row knows become members, unverified until they are hashed (I6)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs, changes, memberships, references, repositories, withheld
from registry.images.omissions import LINK, Kind, Omission
from registry.images.records.journal import understood
from registry.oci.digest import SUPPORTED_ALGORITHMS, Digest
from registry.oci.errors import RegistryError
from registry.parallel import map_parallel
from registry.storage.errors import PathNotFound, PathRefused

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.records.repository_reader import LoadedManifest, StoredRepository
    from registry.storage.driver import Child, ObjectStat

BATCH = 50
"""Blobs adopted in one transaction."""
PAGE = 1000
"""Files of a directory that are compared with the database at a time."""
_LEAVING = "it is being deleted"
"""Why a blob is left out that the next look may find."""


class BlobDiscovery:
    """Any thread, any process; adopting twice is harmless."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def adopt(self, repository: RepositoryRow, view: StoredRepository) -> None:
        """Make members of the blobs that storage has for this repository, as unverified ones."""
        if self._backends.layout.per_repository:
            self.adopt_found(repository, view)
        else:
            self._adopt_all(repository, self._referenced(repository, view), view.omissions)

    def adopt_found(self, repository: RepositoryRow, view: StoredRepository) -> None:
        """As ``adopt``, of what lies in the repository's directory, where each repository has its own blobs."""
        if self._backends.layout.per_repository:
            for found in self._found_on_disk(repository, view):
                self._adopt_all(repository, found, view.omissions)

    def adopt_named(
        self, repository: RepositoryRow, view: StoredRepository, manifests: Mapping[Digest, LoadedManifest]
    ) -> None:
        """As ``adopt``, of these manifests and what they name, where all repositories share one location.

        For a repository that was never read: no row of it withholds anything yet.
        """
        if self._backends.layout.per_repository:
            return  # what lies in its directory was found
        wanted = _named(manifests, view.withheld.blobs)
        with self._backends.database.snapshot() as connection:
            members = memberships.find_all(connection, repository.id, wanted).get()
        self._adopt_all(repository, [digest for digest in wanted if digest not in members], view.omissions)

    def _adopt_all(self, repository: RepositoryRow, found: list[Digest], omissions: list[Omission]) -> None:
        found.sort()  # two that adopt some of the same take their rows in one order
        for start in range(0, len(found), BATCH):
            self._adopt(repository, found[start : start + BATCH], omissions)

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
        driver, layout = self._backends.driver, self._backends.layout
        before, known = self._before(digests)
        new = [digest for digest in digests if digest not in known]
        keys = [layout.blob(repository.name, digest) for digest in new]
        stats = dict(zip(new, map_parallel(driver.capabilities, self._stat, keys), strict=True))
        with self._backends.database.transaction() as connection:
            if is_optional:
                digests = self._still_lacking(connection, repository, digests)
            else:
                repositories.lock_shared(connection, repository.id)  # before blobs, as a push does
            sizes: dict[str, int] = {digest: stat.size for digest in digests if (stat := stats.get(digest)) is not None}
            blobs.adopt_all(connection, sizes)
            rows = blobs.lock_all(connection, digests).get()
            adopted: list[BlobRow] = []
            for digest in digests:
                row, stat = rows.get(digest), stats.get(digest)
                if stat is None and digest not in known:
                    continue
                key = layout.blob(repository.name, digest)
                there = None
                if digest in before and stat is not None:
                    there = blob_locations.find(connection, driver.name, key).get()
                refusal = _refusal(before.get(digest), row, stat, there)
                if row is None or refusal is not None:
                    omissions.append(Omission(Kind.BLOB, repository.name, digest, refusal or _LEAVING))
                    continue
                adopted.append(row)
                if stat is None:
                    continue
                if row.state == blobs.GONE:  # another tool has brought it back
                    blobs.set_state(connection, row.id, blobs.PRESENT)
                blob_locations.adopt(connection, row.id, store=driver.name, key=key, size=stat.size, etag=stat.etag)
            self._join(connection, repository, adopted)

    def _join(self, connection: Transaction, repository: RepositoryRow, adopted: list[BlobRow]) -> None:
        """Make members of blobs, whose manifests follow in another transaction: until then a lease protects them."""
        if not adopted:
            return
        blobs.lease_all(connection, [row.digest for row in adopted], seconds=self._backends.policy.lease)
        now = self._backends.clock()
        add = memberships.add_found if self._backends.layout.per_repository else memberships.add
        for row in adopted:
            add(connection, repository.id, row.id, now=now)

    def _before(self, digests: list[Digest]) -> tuple[dict[str, BlobRow], dict[str, int]]:
        """The blobs that have rows, and those of them that need not be looked for: all share a location of them."""
        with self._backends.database.autocommit() as connection:
            rows = blobs.find_all(connection, digests)
            if self._backends.layout.per_repository:
                return rows.get(), {}
            known = blob_locations.known(connection, digests, store=self._backends.driver.name).get()
        return rows.get(), known

    def _still_lacking(self, connection: Transaction, repository: RepositoryRow, digests: list[Digest]) -> list[Digest]:
        """Those that no manifest which came meanwhile withholds. The repository is locked from here on."""
        if repositories.lock(connection, repository.id).get() is None:
            return []
        repositories.raise_version(connection, repository.id)
        named = withheld.named(connection, repository.id, digests).get()
        return [digest for digest in digests if (digest, withheld.BLOB) not in named]

    def _stat(self, key: str) -> ObjectStat | None:
        try:
            return self._backends.driver.stat(key)
        except PathNotFound:
            return None

    def _found_on_disk(self, repository: RepositoryRow, view: StoredRepository) -> Iterator[list[Digest]]:
        """Blobs in the repository's directory of which nothing is noted, some at a time, in their order."""
        for algorithm in sorted(SUPPORTED_ALGORITHMS):
            prefix = self._backends.layout.blobs(repository.name, algorithm)
            try:
                children = self._backends.driver.children(prefix)
            except PathRefused as error:
                view.omissions.append(Omission(Kind.BLOB, repository.name, f"blobs/{algorithm}", error.reason))
                continue
            while several := list(islice(children, PAGE)):
                yield self._unnoted(repository, algorithm, several, view.omissions)

    def _unnoted(
        self, repository: RepositoryRow, algorithm: str, children: list[Child], omissions: list[Omission]
    ) -> list[Digest]:
        digests = {child.name: digest for child in children if (digest := _digest_of(algorithm, child)) is not None}
        if not digests:
            return []
        keys = {self._backends.layout.blob(repository.name, digest): digest for digest in digests.values()}
        with self._backends.database.snapshot() as connection:
            store = self._backends.driver.name
            noted = set(blob_locations.keys_between(connection, store, min(keys), max(keys)).get())
        links = {child.name for child in children if child.is_link}
        found = []
        for key, digest in keys.items():
            if key in noted:
                continue
            if digest.encoded in links:
                omissions.append(Omission(Kind.BLOB, repository.name, digest, LINK))
            else:
                found.append(digest)
        return found

    def _referenced(self, repository: RepositoryRow, view: StoredRepository) -> list[Digest]:
        """Blobs that the manifests reference, and the manifests, where all repositories share one location.

        What is withheld is not among them (I12).
        """
        wanted = _named(view.manifests, view.withheld.blobs)
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


def _digest_of(algorithm: str, child: Child) -> Digest | None:
    """The digest of a blob by the name of its file; None for a directory, or a temporary name of another tool."""
    if child.is_prefix:
        return None
    try:
        return Digest.parse(f"{algorithm}:{child.name}")
    except RegistryError:
        return None


def _named(manifests: Mapping[Digest, LoadedManifest], withheld: Container[str]) -> dict[Digest, None]:
    """The manifests and the blobs that they name, without those that are withheld (I12)."""
    wanted: dict[Digest, None] = {}
    for digest, loaded in manifests.items():
        wanted[digest] = None
        named = (blob.digest for blob in loaded.manifest.named_blobs())
        wanted.update(dict.fromkeys(blob for blob in named if blob not in withheld))
    return wanted


def _refusal(
    before: BlobRow | None, row: BlobRow | None, stat: ObjectStat | None, there: LocationRow | None
) -> str | None:
    """Why a blob does not join, by its rows before and after the look at the object; None if it does."""
    if row is None or row.state == blobs.CLAIMED or row.generation != (before.generation if before is not None else 0):
        return _LEAVING
    if there is not None and there.state == blob_locations.DELETING:
        return _LEAVING
    if stat is None:
        return _LEAVING if row.state == blobs.GONE else None
    return None if row.size == stat.size else f"it has {stat.size} bytes, elsewhere {row.size}"
