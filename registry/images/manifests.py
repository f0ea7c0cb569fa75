"""Manifests and tags of a repository: put, found, listed, removed; bytes come back exactly as pushed (I5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import blobs, manifests, memberships, references, repositories, tags, withheld
from registry.images import referrers
from registry.images.manifest_publication import ManifestPublication, note_former
from registry.images.manifest_store import FoundManifest, ManifestBytes
from registry.images.records.journal import Change, PendingChange
from registry.images.repositories import require_row
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
    from collections.abc import Collection, Sequence

    from registry.database.manifests import ManifestRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.blob_publication import BlobPublication
    from registry.images.referrers import Referrers
    from registry.images.repositories import Repositories
    from registry.storage.driver import ObjectReader


class PutManifest(NamedTuple):
    """What a push of a manifest did."""

    digest: Digest
    subject: Digest | None


class Manifests:
    """Any thread, any process."""

    def __init__(self, backends: Backends, repositories: Repositories, publication: BlobPublication) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._manifest_publication = ManifestPublication(backends, repositories, publication)
        self._bytes = ManifestBytes(backends)

    # ---- reading

    def find(self, name: str, reference: Digest | str) -> FoundManifest:
        """The manifest with this digest or tag. Raises ManifestUnknown, NameUnknown."""
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
        found = FoundManifest(
            digest, row.media_type, row.size, self._backends.layout.blob(name, digest), current.version
        )
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

    def referrers(
        self, name: str, subject: Digest, *, artifact_type: str | None, last: str, count: int, max_bytes: int
    ) -> tuple[Referrers, int | None]:
        """A page of the manifests with this subject after the digest ``last``, and the repository's version.

        An unknown repository has none: never an error (spec, "Listing Referrers").
        """
        repository = self._repositories.touch(name)
        if repository is None:
            return referrers.NONE, None
        with self._backends.database.snapshot() as connection:
            current = require_row(repositories.get(connection, repository.id).get())
            found = referrers.page(
                connection,
                repository.id,
                subject,
                artifact_type=artifact_type,
                last=last,
                count=count,
                max_bytes=max_bytes,
            )
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
    ) -> PutManifest:
        """Store a manifest under its digest (that of the client, or sha256) and point ``tags`` at it.

        Raises ManifestInvalid, ManifestTooLarge, DigestInvalid, ManifestBlobUnknown naming what is missing (I2).
        """
        if len(body) > self._backends.policy.manifest_bytes:
            raise ManifestTooLarge(f"the manifest is larger than {self._backends.policy.manifest_bytes} bytes")
        actual = Digest.of(body, digest.algorithm if digest else "sha256")
        if digest is not None and digest != actual:
            raise DigestInvalid(f"the manifest has the digest {actual}, not {digest}")
        manifest = parse_manifest(body, content_type)
        change = Change.put(actual, manifest.media_type, len(body), tags, actor=actor)
        self._manifest_publication.publish(name, body, manifest, actual, change)
        return PutManifest(actual, manifest.subject.digest if manifest.subject else None)

    def untag(self, name: str, tag: str, *, actor: str, only: Digest | None = None, forced: bool = False) -> bool:
        """Remove a tag; its manifest stays. False, and nothing is done: it points elsewhere than ``only``.

        ``forced``: also where clients may not delete, or no change may commit; a migration's own changes.
        Raises ManifestUnknown, NameUnknown, Unsupported, Unavailable.
        """
        self._check_deletable(forced=forced)
        repository = self._repositories.require(name)
        with self._backends.database.transaction() as connection:
            self._repositories.lock(connection, repository, forced=forced)
            found = tags.find_all(connection, repository.id, [tag]).get()
            if not found:
                raise ManifestUnknown(f"repository {name} has no tag {tag}")
            if only is not None and found[0].digest != only:
                return False
            if not forced:
                self._backends.policy.immutable.check_removal(name, [tag])
            tags.remove(connection, repository.id, tag)
            note_former(connection, repository, {tag: found[0].digest})
            change = Change("untag", None, None, (tag,), actor, {tag: found[0].digest})
            allotted = change.allot(connection, repository, self._backends.clock())
        self._publication.record(allotted)
        return True

    def delete(
        self,
        name: str,
        digest: Digest,
        *,
        actor: str,
        only: Collection[str] | None = None,
        forced: bool = False,
    ) -> bool:
        """Remove a manifest and every tag that points at it (spec, "Deleting Manifests").

        Former fallback indexes that list it go before it. False, and nothing is done: a tag points at it that is none
        of ``only``. ``forced`` as for ``untag``.
        Raises ManifestUnknown, NameUnknown, Unavailable, and Unsupported naming the indexes that list it (I7).
        """
        self._check_deletable(forced=forced)
        repository = self._repositories.require(name)
        with self._backends.database.transaction() as connection:
            self._repositories.lock(connection, repository, forced=forced)
            row = self._required(connection, repository, digest)
            former = references.formerly_listed_by(connection, repository.id, digest).get()
            listed_by = references.referenced_by(connection, repository.id, digest).get()
            if forced or any(references.referenced_by(connection, repository.id, index).get() for index in former):
                listed_by += former
            if listed_by:
                message = f"the manifest is listed by {', '.join(listed_by)}; delete that first"
                raise Unsupported(message, detail={"manifests": list(listed_by)}, headers={"Allow": "GET, HEAD, PUT"})
            tagged = {tag.name: tag.digest for tag in tags.of_manifest(connection, repository.id, row.blob_id).get()}
            if only is not None and not tagged.keys() <= set(only):
                return False
            if not forced:
                self._backends.policy.immutable.check_removal(name, tagged)
            allotted = [self._remove(connection, repository, index, {}, actor) for index in map(Digest, former)]
            allotted.append(self._remove(connection, repository, digest, tagged, actor))
        for each in allotted:
            self._publication.record(each)
        return True

    # ----

    def _remove(
        self, connection: Transaction, repository: RepositoryRow, digest: Digest, tags: dict[str, str], actor: str
    ) -> PendingChange:
        row = self._required(connection, repository, digest)
        unnamed = withheld.named_by_it_alone(connection, repository.id, row.blob_id).get()
        withheld.remove(connection, repository.id, unnamed)
        manifests.remove(connection, repository.id, row.blob_id)
        memberships.remove(connection, repository.id, row.blob_id)
        change = Change("delete", digest, None, tuple(tags), actor, tags, released=unnamed)
        return change.allot(connection, repository, self._backends.clock())

    def _required(self, connection: Transaction, repository: RepositoryRow, digest: Digest) -> ManifestRow:
        """Raises ManifestUnknown."""
        row = manifests.by_digest(connection, repository.id, digest).get()
        if row is None:
            raise ManifestUnknown(f"repository {repository.name} has no manifest {digest}")
        return row

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
