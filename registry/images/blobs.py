"""Blobs of a repository: looked up, read, mounted, deleted. A repository serves only what is in it (I4)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from registry.database import blob_locations, blobs, manifests, memberships, references, repositories, withheld
from registry.images.blob_deletion import BlobDeletion
from registry.images.blob_locations import BlobLocations, Location
from registry.images.placed_files import PlacedFiles
from registry.images.publication.new_blob import NewBlob
from registry.images.repositories import require_row
from registry.images.trash.trash_files import TrashFiles
from registry.images.verification import VerifyingReader
from registry.oci.errors import BlobUnknown, Unavailable, Unsupported
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.blob_locations import Found
    from registry.database.blobs import BlobRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.blob_deletion import Claim
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.publication.new_blob import Put
    from registry.images.records.journal import PendingChange
    from registry.images.references import References
    from registry.images.repositories import Repositories
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectReader, ObjectStat

ATTEMPTS = 20
"""How often the locations of a blob may change between the choice of one and its opening."""
READ_SECONDS = 10.0
"""How long a deletion reads manifests, at most; the same again goes on from there."""


@dataclass(frozen=True, slots=True)
class HeldBlob:
    """A blob that a repository has."""

    digest: Digest
    size: int
    """Bytes."""
    location: Location
    """Where the bytes are on storage."""
    leased_until: float
    """Until when it is safe from collection, by this machine's ``clocks.boot``."""
    version: int
    """The version of the repository, read before its rows."""

    @property
    def key(self) -> str:
        """The key of the object."""
        return self.location.key

    @property
    def is_verified(self) -> bool:
        """The bytes were hashed."""
        return self.location.is_verified


class Blobs:
    """Any thread, any process."""

    def __init__(
        self, backends: Backends, repositories: Repositories, publication: BlobPublication, references: References
    ) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._locations = BlobLocations(backends)
        self._deletion = BlobDeletion(backends)
        self._trash_files = TrashFiles(backends)
        self._references = references
        self._placed_files = PlacedFiles(backends, publication)

    def find(self, name: str, digest: Digest, *, for_a_push: bool = True) -> HeldBlob:
        """The blob, with a lease, for HEAD: what this says is here can be built upon (I6, I7).

        Not so for a caller that may not push: it can build nothing, and would keep what it only looks at.
        Raises BlobUnknown, NameUnknown.
        """
        repository = self._repositories.require(name)
        row, location = self._held(repository, digest)
        if self._backends.driver.capabilities.stat_is_local:
            self._stat(location.key, row.size)
        leased_until = self._lease(repository, row) if for_a_push else self._leased_until(row)
        return HeldBlob(digest, row.size, location, leased_until, repository.version)

    def require_written_down(self, name: str, digest: Digest) -> None:
        """As ``find``, before a push that was done is answered once more.

        That it is not withheld any more is on storage then, also where the one that did it failed or was killed (I12).
        """
        self.find(name, digest)
        repository = self._repositories.require(name)
        with self._backends.database.autocommit() as connection:
            if not withheld.named(connection, repository.id, [digest]).get():
                return
        self._publication.write_down(repository.id, digest)

    def open(self, name: str, digest: Digest) -> HeldBlob:
        """The blob for GET; ``read`` gives its bytes, hashed before or, where reading is dear, on their way.

        Raises BlobUnknown, NameUnknown.
        """
        repository = self._repositories.require(name)
        row, location = self._held(repository, digest)
        if not location.is_verified and self._backends.driver.capabilities.stat_is_local:
            self._placed_files.verify(repository, digest, location.key)
            location = location._replace(is_verified=True)
        return HeldBlob(digest, row.size, location, self._leased_until(row), repository.version)

    def read(self, blob: HeldBlob, *, offset: int = 0, length: int | None = None) -> ObjectReader:
        """The bytes, from the next location where those of one are gone.

        Raises BlobUnknown when they are nowhere: from then it is unknown until the next push (I6).
        """
        location: Location | None = blob.location
        for _ in range(ATTEMPTS):
            if location is None:
                raise BlobUnknown
            with contextlib.suppress(PathNotFound):
                reader = self._backends.driver.serving.open(location.key, offset=offset, length=length)
                if reader.stat.size == blob.size:
                    return self._hashing(reader, blob, location, whole=not offset and length is None)
                reader.close()
            location = self._locations.mark_lost_and_next(blob.digest, blob.size, location, blobs.MISSING)
        raise Unavailable(headers={"Retry-After": "1"})

    def mount(self, name: str, digest: Digest, source: str | None, *, under_quota: bool = True) -> bool:
        """Make a blob of ``source``, or of any repository if that is None, one of ``name`` without moving bytes.

        False if it is not there, or is being collected; the client uploads it (spec, "Mounting a blob").
        Raises QuotaExceeded: its upload would end so too; not so where it only counts, not ``under_quota``.
        """
        found = self._mountable(digest, source)
        if found is None:
            return False
        if under_quota:
            self._publication.quota_usage.require(name, digest, found.size)
        return self._has_joined(name, found, under_quota=under_quota)

    def is_below(self, digest: Digest, prefix: str) -> bool:
        """Whether any repository of a mirror has it, which is below its prefix."""
        return any(each.startswith(f"{prefix}/") for each in self._holders(digest))

    def mount_below(self, name: str, digest: Digest, prefix: str) -> bool:
        """As ``mount``, of what any repository of a mirror has, which is below its prefix. It counts in quotas.

        That the repository may have it is for the caller to know (I12).
        """
        found = self._first_held([each for each in self._holders(digest) if each.startswith(f"{prefix}/")], digest)
        return found is not None and self._has_joined(name, found, under_quota=False)

    def delete(self, name: str, digest: Digest) -> None:
        """End the membership.

        What the manifests of the repository name is read first, where a release before this one has put them.
        Raises BlobUnknown, NameUnknown, Unavailable while that takes long, and Unsupported naming the manifests that
        need it, or may need it (I7). Deleted manifests that name it can be restored all the same.
        """
        if not self._backends.policy.delete:
            raise Unsupported("deleting is disabled; storage.delete enables it", headers={"Allow": "GET, HEAD"})
        repository = self._repositories.require(name)
        self._held(repository, digest)
        self._references.complete_repository(repository.id, seconds=READ_SECONDS)
        with self._backends.database.autocommit() as connection:
            is_kept = self._trash_files.is_wanted(connection, repository, digest)
        if is_kept:
            self._trash_files.keep(repository, digest)
        with self._backends.database.transaction() as connection:
            claim = self._leave(connection, repository, digest, is_kept=is_kept)
        if claim is not None:
            self._deletion.delete(claim)

    # ----

    def _has_joined(self, name: str, found: HeldBlob, *, under_quota: bool) -> bool:
        """False where the bytes are gone."""
        try:
            self._publication.record(self._repositories.again(partial(self._join, name, found, under_quota)))
        except PathNotFound:
            return False
        return True

    def _join(self, name: str, found: HeldBlob, under_quota: bool) -> PendingChange | None:  # noqa: FBT001 - of a partial
        """Make what a repository has a member of another one."""
        repository, put = self._repositories.ensure(name), self._put_from(found)
        blob = NewBlob(repository, found.digest, found.size, put, source=found.location, under_quota=under_quota)
        return self._publication.publish(blob)

    def _leave(
        self, connection: Transaction, repository: RepositoryRow, digest: Digest, *, is_kept: bool
    ) -> Claim | None:
        """End the membership. ``is_kept``: the trash has the bytes as well, where it needs them."""
        self._repositories.lock(connection, repository)
        member = memberships.find(connection, repository.id, digest).get()
        if member is None:
            raise BlobUnknown
        _require_unneeded(connection, repository, digest)
        blobs.lock(connection, digest)  # before its membership, as a publisher does
        memberships.remove(connection, repository.id, member.id)
        repositories.raise_version(connection, repository.id)
        if not self._backends.layout.per_repository:
            return None  # other repositories may have it: collection decides
        if not is_kept and self._trash_files.is_wanted(connection, repository, digest):
            raise Unavailable(headers={"Retry-After": "1"})  # what named it was deleted a moment ago
        return self._deletion.claim(connection, member.id, self._backends.layout.blob(repository.name, digest))

    def _held(self, repository: RepositoryRow, digest: Digest) -> tuple[BlobRow, Location]:
        """The blob, and the location to read: the best that is noted, or where it should be. Raises BlobUnknown."""
        key = self._backends.layout.blob(repository.name, digest)
        blob, noted = self._look(repository, digest)
        if self._placed_files.adopt(repository, digest, key, blob, noted):
            blob, noted = self._look(repository, digest)
        if blob is None and not self._backends.driver.capabilities.stat_is_local:
            with self._backends.database.autocommit() as connection:
                require_row(repositories.get(connection, repository.id).get())
        if blob is None or blob.state != blobs.PRESENT:
            raise BlobUnknown(f"repository {repository.name} has no blob {digest}; push or mount it first")
        return blob, Location(key) if noted is None else Location.of(noted)

    def _look(self, repository: RepositoryRow, digest: Digest) -> Found:
        layout, store = self._backends.layout, self._backends.driver.name
        with self._backends.database.autocommit() as connection:
            if not layout.per_repository:
                return blob_locations.held(connection, repository.id, digest, store=store).get()
            key = layout.blob(repository.name, digest)
            return blob_locations.held_at(connection, repository.id, digest, store=store, key=key).get()

    def _hashing(self, reader: ObjectReader, blob: HeldBlob, location: Location, *, whole: bool) -> ObjectReader:
        """Hash on its way what was not hashed at this key and in this version, if all of it is read."""
        known = self._backends.layout.per_repository or reader.stat.etag == location.etag
        if not whole or (location.is_verified and known):
            return reader
        return VerifyingReader(reader, blob.digest, partial(self._note_hashed, blob, location, reader.stat.etag))

    def _stat(self, key: str, size: int) -> None:
        try:
            stat = self._backends.driver.stat(key)
        except PathNotFound as error:
            raise BlobUnknown("the bytes of the blob are missing on storage; push it again") from error
        if stat.size != size:
            raise BlobUnknown("the bytes of the blob are damaged on storage; push it again")

    def _lease(self, repository: RepositoryRow, blob: BlobRow) -> float:
        """Renew the lease when less than half of it is left; the time that it ends. Raises BlobUnknown if it went.

        A collector locks the blob, and looks at its lease, before it ends the membership. So it has ended it before
        this lease, and then the look after it, in the same transaction, finds none; or it sees this lease.
        """
        lease = self._backends.policy.lease
        if not self._backends.policy.is_lease_due(blob.lease_left):
            return self._leased_until(blob)
        until = self._backends.database.clocks.boot() + lease
        with self._backends.database.transaction() as connection:
            blobs.lease(connection, blob.id, seconds=lease)
            member = memberships.find(connection, repository.id, blob.digest).get()
            if member is None or member.state != blobs.PRESENT:
                raise BlobUnknown(f"repository {repository.name} has no blob {blob.digest}; push or mount it first")
        return until

    def _leased_until(self, blob: BlobRow) -> float:
        return self._backends.database.clocks.boot() + blob.lease_left

    def _note_hashed(self, blob: HeldBlob, location: Location, etag: str, right: bool) -> None:  # noqa: FBT001 - what a verifying reader found
        if right:
            self._locations.note_verified(location, etag)
        else:
            self._locations.mark_lost_and_next(blob.digest, blob.size, location, blobs.QUARANTINED)

    def _mountable(self, digest: Digest, source: str | None) -> HeldBlob | None:
        """The blob where it can be mounted from."""
        return self._first_held([source] if source is not None else self._holders(digest), digest)

    def _first_held(self, names: Sequence[str], digest: Digest) -> HeldBlob | None:
        """The blob in the first of these repositories that has it."""
        for name in names:
            repository = self._repositories.touch(name)
            if repository is None:
                continue
            try:
                self.find(name, digest)
                held = self.open(name, digest)
            except BlobUnknown:
                continue
            return held
        return None

    def _holders(self, digest: Digest) -> list[str]:
        with self._backends.database.snapshot() as connection:
            blob = blobs.find(connection, digest).get()
            return memberships.repositories_with(connection, blob.id).get() if blob is not None else []

    def _put_from(self, source: HeldBlob) -> Put:
        driver, shared = self._backends.driver, not self._backends.layout.per_repository

        def put(key: str, *, replace: bool) -> ObjectStat:  # noqa: ARG001 - there are no other bytes
            return driver.stat(key) if shared else driver.link(source.key, key)

        return put


def _require_unneeded(connection: Transaction, repository: RepositoryRow, digest: Digest) -> None:
    """Raises Unsupported where a manifest needs the blob, or may need it. The repository is locked."""
    needed_by = references.referenced_by(connection, repository.id, digest).get()
    if manifests.by_digest(connection, repository.id, digest).get() is not None:
        needed_by.insert(0, digest)
    why = "is"
    if not needed_by:  # some may not have been read yet
        unread = references.incomplete_of(connection, repository.id, after=-1, count=10).get()
        needed_by, why = [row.digest for row in unread], "may be"
    if needed_by:
        message = f"the blob {why} needed by {', '.join(needed_by)}; delete what needs it first"
        raise Unsupported(message, detail={"manifests": list(needed_by)}, headers={"Allow": "GET, HEAD"})
