"""Manifest publication: what a manifest names is in its repository when it is put there with its tags (I2).

What may be missing, by configuration, is noted as withheld (I12).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import blobs, manifests, memberships, references, repositories, tags, withheld
from registry.database.statement import batches
from registry.images import manifest_store as rows
from registry.images.manifest_store import ManifestBytes
from registry.images.publication.new_blob import Keep, KeepMore, NewBlob
from registry.images.records import withholding
from registry.images.records.journal import NO_TAGS
from registry.images.repositories import require_row
from registry.oci.errors import ManifestBlobUnknown
from registry.oci.moment import whole
from registry.oci.tag import is_fallback
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from registry.database.repositories import RepositoryRow
    from registry.database.tags import TagRow
    from registry.database.transaction import Later, Transaction
    from registry.database.withheld import WithheldRow
    from registry.images.backends import Backends
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.publication.new_blob import Look, Write
    from registry.images.records.journal import Change, PendingChange
    from registry.images.repositories import Repositories
    from registry.oci.digest import Digest
    from registry.oci.manifest import Manifest
    from registry.storage.driver import ObjectStat

    Alongside = Callable[[Transaction, RepositoryRow], None]
    """More rows of the transaction that puts a manifest, in a repository that is locked. Raises what makes the whole
    undone; it may be called again then."""


class _Asked(NamedTuple):
    """What a push must know of a repository that it has locked."""

    members: Later[dict[str, str]]
    """The states of the members that the manifest names."""
    manifests: list[Later[dict[str, tuple[int, float]]]]
    """Those of the entries that it names which are manifests of the repository."""
    withheld: Later[dict[tuple[str, str], WithheldRow]]
    """Rows that withhold what it names, or itself."""
    tags: Later[list[TagRow]]
    """The tags that it is to have, as they are."""
    allotted: Later[RepositoryRow | None]
    """The repository with its next number."""


class ManifestPublication:
    """Puts manifests into repositories. Any thread, any process."""

    def __init__(self, backends: Backends, repositories: Repositories, publication: BlobPublication) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._bytes = ManifestBytes(backends)

    def publish(
        self,
        name: str,
        body: bytes,
        manifest: Manifest,
        digest: Digest,
        change: Change,
        *,
        alongside: Alongside | None = None,
    ) -> Mapping[str, str]:
        """Store ``body``, which is ``manifest`` and has ``digest``, and do ``change``, which puts it, durably.

        Returns the digest that each of its tags had before; a new tag is absent.

        Raises ManifestBlobUnknown naming what is missing, TagImmutable, NameInvalid, Unavailable, and what
        ``alongside`` raises.
        """
        pending = self._repositories.again(lambda: self._publish(name, body, manifest, digest, change, alongside))
        self._publication.record(pending)
        return NO_TAGS if pending is None else pending.old

    def _publish(
        self,
        name: str,
        body: bytes,
        manifest: Manifest,
        digest: Digest,
        change: Change,
        alongside: Alongside | None,
    ) -> PendingChange | None:
        """As ``publish``, up to what the caller has to record."""
        repository, found, keep = self._check_references(name, manifest, digest)
        self._check_tags(repository, digest, change.tags)

        def put(key: str, *, replace: bool) -> ObjectStat:  # noqa: ARG001 - it always does
            return self._backends.driver.write(key, body)

        def commit(connection: Transaction, keep: Keep) -> Write:
            asked = self._ask(connection, repository, manifest, digest, change.tags)

            def write(blob_id: int) -> PendingChange:
                if alongside is not None:
                    alongside(connection, repository)
                pending = self._write(connection, blob_id, manifest, change, asked, keep)
                self._bytes.note(connection, blob_id, body)
                return pending

            return write

        return self._publication.publish(NewBlob(repository, digest, len(body), put, commit, keep), found=found)

    def _ask(
        self,
        connection: Transaction,
        repository: RepositoryRow,
        manifest: Manifest,
        digest: Digest,
        tag_names: tuple[str, ...],
    ) -> _Asked:
        """Ask for what the decision depends on, and wait for nothing. The repository is locked."""
        return _Asked(
            memberships.states(connection, repository.id, _named(manifest)),
            [
                manifests.targets(connection, repository.id, part)
                for part in batches([child.digest for child in manifest.children()])
            ],
            withheld.named(connection, repository.id, [*_named(manifest), digest]),
            tags.find_all(connection, repository.id, list(tag_names)),
            repositories.next_sequence(connection, repository.id),
        )

    def _write(
        self, connection: Transaction, blob_id: int, manifest: Manifest, change: Change, asked: _Asked, keep: Keep
    ) -> PendingChange:
        """Write the rows. Raises ManifestBlobUnknown, and KeepMore where the repository lacks something."""
        now = whole(self._backends.clock())
        held = asked.members.get()
        members = {digest for digest, state in held.items() if state == blobs.PRESENT}
        repository, noted = require_row(asked.allotted.get()), asked.withheld.get().values()
        self._check_members(repository.name, members, manifest)
        manifests = {digest for found in asked.manifests for digest in found.get()}
        for child in manifest.children():
            if child.digest in members and child.digest not in manifests:
                self._refuse_missing([child.digest], accept=self._backends.policy.may_lack_manifests(repository.name))
        lacks = withholding.lacking(manifest, held, manifests)
        if lacks and keep is not Keep.ALONE:
            raise KeepMore(Keep.ALONE)
        withholding.require_room(connection, repository, lacks, noted, self._backends.memory)
        old = {tag.name: tag.digest for tag in asked.tags.get()}
        self._backends.policy.immutable.check_put(repository.name, old, change.digest or "")
        has = withholding.named(manifest, change.digest) - lacks
        came = withheld.collected(noted) & has
        rows.note(connection, repository.id, blob_id, manifest, now=now)
        for tag in change.tags:
            tags.put(connection, repository.id, tag, blob_id, sequence=repository.sequence, now=now)
        note_former(connection, repository, old)
        withheld.add(connection, repository.id, lacks)
        withheld.release(connection, repository.id, came, sequence=repository.sequence)
        return change.keep(connection, repository, now, old=old, withheld=lacks, released=came)

    def _check_tags(self, repository: RepositoryRow, digest: Digest, names: tuple[str, ...]) -> None:
        """Check before anything is written, as again at the commit."""
        if names and self._backends.policy.immutable:
            with self._backends.database.autocommit() as connection:
                found = tags.find_all(connection, repository.id, list(names)).get()
            old = {tag.name: tag.digest for tag in found}
            self._backends.policy.immutable.check_put(repository.name, old, digest)

    def _check_members(self, name: str, members: Collection[str], manifest: Manifest) -> None:
        policy = self._backends.policy
        missing = [blob.digest for blob in manifest.needed_blobs() if blob.digest not in members]
        self._refuse_missing(missing, accept=policy.may_lack_blobs(name))
        children = [child.digest for child in manifest.children() if child.digest not in members]
        self._refuse_missing(children, accept=policy.may_lack_manifests(name))

    def _check_references(
        self, name: str, manifest: Manifest, digest: Digest
    ) -> tuple[RepositoryRow, Look | None, Keep]:
        """Check before anything is written, as again at the commit; also reads what ``publish`` begins with."""
        repository = self._repositories.touch(name)
        if repository is None:
            self._check_members(name, {}, manifest)
            return self._repositories.ensure(name), None, Keep.LOCKED
        with self._backends.database.autocommit() as connection:
            named = memberships.states(connection, repository.id, _named(manifest))
            found = self._publication.look(connection, name, digest)
            members = named.get()
            self._check_members(name, members, manifest)
        self._check_on_storage(repository, manifest)
        keep = Keep.ALONE if withholding.lacking(manifest, members, members) else Keep.LOCKED
        return repository, found.get(), keep

    def _check_on_storage(self, repository: RepositoryRow, manifest: Manifest) -> None:
        """Where a stat is local, references must exist on storage and not only in rows (I2, I6)."""
        driver, policy = self._backends.driver, self._backends.policy
        if not driver.capabilities.stat_is_local or policy.may_lack_blobs(repository.name):
            return
        missing = []
        for blob in manifest.needed_blobs():
            try:
                driver.stat(self._backends.layout.blob(repository.name, blob.digest))
            except PathNotFound:
                missing.append(blob.digest)
        self._refuse_missing(missing, accept=False)

    def _refuse_missing(self, digests: Iterable[Digest], *, accept: bool) -> None:
        missing = list(digests)
        if missing and not accept:
            message = f"the repository lacks what the manifest names: {', '.join(missing[:10])}; push that first"
            raise ManifestBlobUnknown(message, detail={"missing": [str(digest) for digest in missing[:100]]})


def note_former(connection: Transaction, repository: RepositoryRow, old: dict[str, str]) -> None:
    """Note which indexes have lost their fallback tag: ``old`` has the digests that these tags had."""
    for tag, digest in old.items():
        if is_fallback(tag):
            references.set_former(connection, repository.id, digest, subject=tag.replace("-", ":", 1))


def _named(manifest: Manifest) -> list[Digest]:
    return [descriptor.digest for descriptor in (*manifest.named_blobs(), *manifest.children())]
