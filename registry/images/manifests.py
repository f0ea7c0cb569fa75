"""Manifests and tags of a repository: put, found, listed, removed; bytes come back exactly as pushed (I5)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from registry.database import blobs, manifests, repositories, tags
from registry.images import referrers
from registry.images.manifest_store import FoundManifest, ManifestBytes
from registry.images.publication.manifest_publication import ManifestPublication, note_former
from registry.images.records.journal import Change
from registry.images.repositories import require_row
from registry.images.trash.manifest_deletion import ManifestDeletion, Removal
from registry.oci.digest import Digest
from registry.oci.errors import (
    DigestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    Unavailable,
    Unsupported,
)
from registry.oci.manifest import parse_manifest
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.database.tags import TagRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.publication.manifest_publication import Alongside
    from registry.images.referrers import Referrers, Wanted
    from registry.images.repositories import Repositories
    from registry.oci.manifest import Manifest
    from registry.storage.driver import ObjectReader


MIRROR = "mirror"
"""The actor and the cause in a record of what came from an upstream."""
ATTEMPTS = 20
"""How often a manifest may go, and its tag point at another, before it is leased."""


class PutManifest(NamedTuple):
    """What a push of a manifest did."""

    digest: Digest
    subject: Digest | None
    old: Mapping[str, str]
    """The digest that each of its tags had before; a new tag is absent."""


class Manifests:
    """Any thread, any process."""

    def __init__(self, backends: Backends, repositories: Repositories, publication: BlobPublication) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._manifest_publication = ManifestPublication(backends, repositories, publication)
        self.deletion = ManifestDeletion(backends, repositories, publication)
        self._bytes = ManifestBytes(backends)

    # ---- reading

    def find(self, name: str, reference: Digest | str, *, for_a_push: bool = False) -> FoundManifest:
        """The manifest with this digest or tag. Raises ManifestUnknown, NameUnknown.

        ``for_a_push``: with a lease, so that a client which is told that it is here need not push it again (I7).
        The lease is durable when this returns.
        """
        for _ in range(ATTEMPTS):
            found = self._find(name, reference)
            if not (for_a_push and self._backends.policy.is_lease_due(found.leased_until - self._boot())):
                return found
            leased_until = self._lease(name, found.digest)
            if leased_until is not None:
                return found._replace(leased_until=leased_until)
        raise Unavailable(headers={"Retry-After": "1"})

    def _find(self, name: str, reference: Digest | str) -> FoundManifest:
        repository = self._repositories.require(name)
        with self._backends.database.snapshot() as connection:
            row = self._row(connection, repository.id, reference)
            current = require_row(repositories.get(connection, repository.id).get())
        if row is None or row.state != blobs.PRESENT:
            if self._backends.omissions.unreadable(name, reference) is not None:
                message = f"the manifest {reference} could not be read from storage; see the log, then try again"
                raise Unavailable(message, headers={"Retry-After": "5"})
            raise ManifestUnknown(f"repository {name} has no manifest {reference}")
        digest = Digest(row.digest)
        key = self._backends.layout.blob(name, digest)
        found = FoundManifest(digest, row.media_type, row.size, key, current.version, self._boot() + row.lease_left)
        if self._backends.driver.capabilities.stat_is_local:
            self._stat(found)
        return found

    def read(self, manifest: FoundManifest) -> bytes:
        """The exact bytes. Raises ManifestUnknown when they are lost."""
        return self._bytes.read(manifest)

    def open(self, manifest: FoundManifest) -> ObjectReader:
        """A reader of the exact bytes, never whole in memory. Raises ManifestUnknown when they are lost."""
        return self._bytes.open(manifest)

    def tags(self, name: str, *, last: str, count: int) -> tuple[list[str], int]:
        """At most ``count`` tags after ``last``, in byte order, and the repository's version. Raises NameUnknown."""
        repository = self._repositories.require(name)
        with self._backends.database.snapshot() as connection:
            current = require_row(repositories.get(connection, repository.id).get())
            return tags.page(connection, repository.id, last=last, count=count).get(), current.version

    def referrers(self, name: str, subject: Digest, wanted: Wanted) -> tuple[Referrers, int | None]:
        """A page of the manifests with this subject, and the repository's version.

        An unknown repository has none: never an error (spec, "Listing Referrers").
        """
        repository = self._repositories.touch(name)
        if repository is None:
            return referrers.NONE, None
        with self._backends.database.snapshot() as connection:
            current = require_row(repositories.get(connection, repository.id).get())
            found = referrers.page(connection, repository.id, subject, wanted)
        return found, current.version

    # ---- changing

    def put(
        self,
        name: str,
        body: bytes,
        content_type: str | None,
        *,
        digest: Digest | None,
        tags: Sequence[str],
        actor: str,
        address: str | None = None,
    ) -> PutManifest:
        """Store a manifest under its digest (that of the client, or sha256) and point ``tags`` at it.

        ``address`` is that of an ``actor`` that is a name.
        Raises ManifestInvalid, ManifestTooLarge, DigestInvalid, ManifestBlobUnknown naming what is missing (I2).
        """
        manifest, actual = self._checked(body, content_type, digest)
        change = Change.put(actual, manifest.media_type, len(body), tags, actor=actor, address=address)
        return self._put(name, body, manifest, actual, change)

    def put_mirrored(
        self,
        name: str,
        body: bytes,
        content_type: str | None,
        *,
        digest: Digest | None,
        tags: Sequence[str],
        alongside: Alongside | None = None,
    ) -> PutManifest:
        """As ``put``, of what an upstream has sent; ``alongside`` writes more rows of the transaction.

        Raises what ``put`` does, and what ``alongside`` raises: then nothing has changed.
        """
        manifest, actual = self._checked(body, content_type, digest)
        change = replace(Change.put(actual, manifest.media_type, len(body), tags, actor=MIRROR), cause=MIRROR)
        return self._put(name, body, manifest, actual, change, alongside)

    def untag(
        self,
        name: str,
        tag: str,
        *,
        actor: str,
        address: str | None = None,
        only: Digest | None = None,
        forced: bool = False,
    ) -> Removal | None:
        """Remove a tag; its manifest stays. None, and nothing is done, if it points elsewhere than ``only``.

        ``forced``: also where clients may not delete, or no change may commit; a migration's own changes.
        Raises ManifestUnknown, NameUnknown, Unsupported, Unavailable.
        """
        self._check_deletable(forced=forced)

        def check(found: TagRow) -> bool:
            if only is not None and found.digest != only:
                return False
            if not forced:
                self._backends.policy.immutable.check_removal(name, {tag: found.digest})
            return True

        change = Change("untag", None, None, (), actor, address=address)
        repository = self._repositories.require(name)
        old = self._untag(repository, [tag], change, check, forced=forced, requires=True)
        return Removal(old) if old else None

    def expire(self, name: str, sequences: Mapping[str, int], *, actor: str, cause: str) -> Mapping[str, str]:
        """Remove tags that the registry itself was told to remove, whatever clients may; their manifests stay.

        All of them go in one change, but for those that were set again after the change of their sequence number, are
        immutable, or are gone. Returns the tags that went, with the digest that each had. ``cause`` says why, in the
        record. Raises NameUnknown, Unavailable.
        """
        immutable = self._backends.policy.immutable

        def check(found: TagRow) -> bool:
            return found.sequence == sequences[found.name] and not immutable.has(name, found.name)

        change = Change("untag", None, None, (), actor, cause=cause)
        return self._untag(self._repositories.require(name), list(sequences), change, check, forced=False)

    def delete(
        self,
        name: str,
        digest: Digest,
        *,
        actor: str,
        address: str | None = None,
        only: Collection[str] | None = None,
        forced: bool = False,
    ) -> Removal | None:
        """Remove a manifest and every tag that points at it (spec, "Deleting Manifests"), and what is attached to it.

        Former fallback indexes that list it go before it. None, and nothing is done, if a tag points at it that is none
        of ``only``. ``forced`` as for ``untag``; then what is attached stays. All of it goes into the trash.
        Raises ManifestUnknown, NameUnknown, Unavailable, and Unsupported naming the indexes that list it (I7).
        """
        self._check_deletable(forced=forced)
        return self.deletion.delete(name, digest, actor=actor, address=address, only=only, forced=forced)

    # ----

    def _checked(self, body: bytes, content_type: str | None, digest: Digest | None) -> tuple[Manifest, Digest]:
        """What the bytes are. Raises ManifestInvalid, ManifestTooLarge, DigestInvalid."""
        if len(body) > self._backends.policy.manifest_bytes:
            raise ManifestTooLarge(f"the manifest is larger than {self._backends.policy.manifest_bytes} bytes")
        actual = Digest.of(body, digest.algorithm if digest else "sha256")
        if digest is not None and digest != actual:
            raise DigestInvalid(f"the manifest has the digest {actual}, not {digest}")
        return parse_manifest(body, content_type), actual

    def _put(
        self,
        name: str,
        body: bytes,
        manifest: Manifest,
        digest: Digest,
        change: Change,
        alongside: Alongside | None = None,
    ) -> PutManifest:
        """Do ``change``, which puts ``manifest``."""
        old = self._manifest_publication.publish(name, body, manifest, digest, change, alongside=alongside)
        return PutManifest(digest, manifest.subject.digest if manifest.subject else None, old)

    def _untag(
        self,
        repository: RepositoryRow,
        names: list[str],
        change: Change,
        check: Callable[[TagRow], bool],
        *,
        forced: bool,
        requires: bool = False,
    ) -> Mapping[str, str]:
        """Remove those tags of whose rows ``check`` says so, and record the change; the digest that each had.

        Raises ManifestUnknown for one that is gone, if it ``requires`` them.
        """
        with self._backends.database.transaction() as connection:
            self._repositories.lock(connection, repository, forced=forced)
            found = tags.find_all(connection, repository.id, names).get()
            if requires and len(found) < len(names):
                raise ManifestUnknown(f"repository {repository.name} has no tag {names[0]}")
            old = {row.name: row.digest for row in sorted(found) if check(row)}
            if not old:
                return old
            tags.remove_all(connection, repository.id, old)
            note_former(connection, repository, old)
            removal = replace(change, tags=tuple(old), old=old)
            allotted = removal.allot(connection, repository, self._backends.clock())
        self._publication.record(allotted)
        return old

    def _boot(self) -> float:
        return self._backends.database.clocks.boot()

    def _lease(self, name: str, digest: Digest) -> float | None:
        """Lease a manifest that was just found; None if it is gone by now, or claimed.

        A collector locks the blob, and looks at its lease, before it removes the manifest. So it has removed it before
        this lease, and then the look after it, in the same transaction, finds none; or it sees this lease.
        """
        lease = self._backends.policy.lease
        until = self._boot() + lease
        with self._backends.database.transaction() as connection:
            repository = repositories.find(connection, name).get()
            blob = blobs.find(connection, digest).get()
            if repository is None or blob is None:
                return None
            blobs.lease(connection, blob.id, seconds=lease)
            row = manifests.by_digest(connection, repository.id, digest).get()
        return until if row is not None and row.state == blobs.PRESENT else None

    def _row(self, connection: Transaction, repository_id: int, reference: Digest | str) -> ManifestRow | None:
        if isinstance(reference, Digest):
            return manifests.by_digest(connection, repository_id, reference).get()
        return manifests.by_tag(connection, repository_id, reference).get()

    def _stat(self, manifest: FoundManifest) -> None:
        try:
            stat = self._backends.driver.stat(manifest.key)
        except PathNotFound as error:
            raise ManifestUnknown("the bytes of the manifest are missing on storage; push it again") from error
        if stat.size != manifest.size:
            raise ManifestUnknown("the bytes of the manifest are damaged on storage; push it again")

    def _check_deletable(self, *, forced: bool) -> None:
        if not (self._backends.policy.delete or forced):
            raise Unsupported("deleting is disabled; storage.delete enables it", headers={"Allow": "GET, HEAD, PUT"})
