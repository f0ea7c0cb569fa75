"""*Preview* of a purge: what it would come to, from the same grounds; nothing is changed.

A purge after it does exactly that, unless a client or another process changes something between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database import blobs, manifests, memberships
from registry.database.collection import purging, trash
from registry.images.trash.purge_grounds import (
    NAMED,
    Going,
    Purged,
    PurgeGrounds,
    being_deleted_told,
    may_be_needed_told,
    needed_by,
)
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, RegistryError, Unsupported

if TYPE_CHECKING:
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.repositories import Repositories
    from registry.images.trash.manifest_deletion import ManifestDeletion
    from registry.images.trash.purge_grounds import Unknown
    from registry.storage.driver import LinkedStat


class PurgePreview:
    """Any thread, any process."""

    def __init__(self, backends: Backends, repositories: Repositories, deletion: ManifestDeletion) -> None:
        self._backends = backends
        self._repositories = repositories
        self._manifest_deletion = deletion
        self._grounds = PurgeGrounds(backends)

    def run(self, name: str, digest: Digest, *, unknown: Unknown, everywhere: bool = False) -> Purged:
        """What ``Purge.run`` would come to. Raises as that does."""
        done = Purged(name, digest)
        all_going = {name: self._going(name, digest, done)}
        for other in self._grounds.holders_of(digest, all_going) if everywhere else ():
            try:
                all_going[other] = self._going(other, digest, done)
            except RegistryError as error:
                done.keep(digest, error.message, [other])
        done.repositories = sorted(all_going)
        gone = sorted(set().union(*(going.gone for going in all_going.values())))
        reason = self._grounds.reason_to_wait(gone, unknown)
        if reason is not None:
            done.unfinished += [may_be_needed_told(each, reason) for each in gone]
            return done
        for each in gone:
            self._judge(Digest(each), all_going, done)
        done.objects.sort()
        for going in all_going.values():
            done.manifests += going.manifests
        return done

    def _going(self, name: str, digest: Digest, done: Purged) -> Going:
        """What a repository would lose. Raises as ``run``."""
        repository = self._repositories.require(name)
        begun = self._begun(repository, digest)
        with self._backends.database.snapshot() as connection:
            deleted = self._deleted(connection, repository, digest)
            planned = frozenset(map(str, deleted))
            member = memberships.find(connection, repository.id, digest).get()
            naming = purging.trash_naming(connection, repository.id, digest).get()
            needing = needed_by(connection, repository.id, digest, planned)
            if not (deleted or member or naming):
                raise ManifestUnknown(f"repository {name} has no manifest and no blob {digest}, nor has its trash")
            if needing:
                message = f"the blob is needed by {', '.join(needing)}; purge these"
                raise Unsupported(message, detail={"manifests": list(needing)})
            named = {each for manifest in planned for each in self._named(connection, repository, manifest)}
        with_it = [] if deleted else self._grounds.deleted_with(repository, digest)
        trashed = tuple(map(Digest, dict.fromkeys([*deleted, *begun, *with_it, *naming])))
        going = Going(repository, trashed, planned=planned)
        done.tags += [f"{name}:{tag}" for tags in [*deleted.values(), *begun.values()] for tag in tags]
        before = [each for each in trashed if each not in planned]
        with self._backends.database.snapshot() as connection:
            for each in sorted({str(digest), *planned, *named, *self._grounds.named(repository, before)}):
                if not self._grounds.is_kept(connection, going, each, done):
                    going.gone.add(each)
        return going

    def _deleted(
        self, connection: Transaction, repository: RepositoryRow, digest: Digest
    ) -> dict[Digest, tuple[str, ...]]:
        """The manifests that would be deleted, in the order of the trash, with their tags."""
        if manifests.by_digest(connection, repository.id, digest).get() is None:
            return {}
        going = self._manifest_deletion.preview(connection, repository, digest)
        return dict(reversed(going))

    def _begun(self, repository: RepositoryRow, digest: Digest) -> dict[Digest, tuple[str, ...]]:
        """What a deletion that was killed has put into the trash before its manifest, with the tags that these had."""
        with self._backends.database.autocommit() as connection:
            batch = trash.begun(connection, repository.id, digest).get()
        rows = [] if batch is None else self._grounds.went(repository, batch)
        return {Digest(row.digest): row.tags for row in rows}

    @staticmethod
    def _named(connection: Transaction, repository: RepositoryRow, digest: str) -> list[str]:
        row = manifests.by_digest(connection, repository.id, digest).get()
        return [] if row is None else trash.held(connection, repository.id, row.blob_id).get()

    def _judge(self, digest: Digest, all_going: dict[str, Going], done: Purged) -> None:
        """What would become of the bytes of a blob that these repositories would have no more."""
        holders = self._grounds.holders_of(digest, all_going)
        files: dict[str, LinkedStat] = {}
        if self._backends.layout.per_repository:
            for name, going in all_going.items():
                files |= self._grounds.files(name, digest) if digest in going.gone else {}
        done.objects += files
        if holders:
            done.keep(digest, "other repositories have it, or can restore it", holders[:NAMED])
            return
        done.tell_further_names(digest, [files])
        before = len(done.unfinished) + len(done.unreachable)
        with self._backends.database.autocommit() as connection:
            row = blobs.find(connection, digest).get()
            objects = purging.objects(connection, row.id).get() if row is not None else []
        if row is None:
            self._judge_unknown(digest, done)
        for each in objects:
            told = self._grounds.out_of_reach(digest, each)
            if told is not None:
                done.unreachable.append(told)
            elif each.state == "deleting":
                done.unfinished.append(being_deleted_told(digest, each))
            elif each.key not in files:
                done.objects.append(each.key)
        if row is not None and len(done.unfinished) + len(done.unreachable) == before:
            done.removed.append(digest)
            done.bytes += row.size

    def _judge_unknown(self, digest: Digest, done: Purged) -> None:
        stat = self._grounds.unknown_object(digest, done)
        if stat is not None:
            done.objects.append(self._backends.layout.blob("", digest))
            done.removed.append(digest)
            done.bytes += stat.size
