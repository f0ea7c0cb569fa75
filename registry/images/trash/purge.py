"""*Purge*: content goes for good and at once, without trash, grace and leases: a secret that was pushed by mistake.

What goes is a manifest with its tags, with what is attached to it, and with the blobs that only these name; or a blob
that no manifest of its repository names. Each manifest is written into the journal as purged, so that no rebuild finds
it in the trash. What may not be deleted (another manifest or repository has it, a migration needs it, another deletes
it) stays, and is told of with its reason.

Killed at any instant, the same again goes on from there.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from registry.database import blobs, manifest_bodies, manifests, memberships, references, repositories
from registry.database.collection import purging, trash
from registry.images.blob_deletion import BlobDeletion
from registry.images.records.journal import Change
from registry.images.trash.manifest_deletion import ManifestDeletion
from registry.images.trash.purge_grounds import (
    NAMED,
    Going,
    Purged,
    PurgeGrounds,
    being_deleted_told,
    may_be_needed_told,
)
from registry.images.trash.purge_preview import PurgePreview
from registry.images.trash.trash_files import TrashFiles
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown, RegistryError, Unsupported
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.blob_deletion import Claim
    from registry.images.publication.blob_publication import BlobPublication
    from registry.images.records.folding import Folding
    from registry.images.repositories import Repositories
    from registry.images.trash.purge_grounds import Unknown

BLOBS: Final = 25
"""Blobs that one transaction decides about."""


@dataclass(frozen=True, slots=True)
class _Caller:
    actor: str
    address: str | None


class Purge:
    """Any thread, any process."""

    def __init__(
        self, backends: Backends, repositories: Repositories, publication: BlobPublication, folding: Folding
    ) -> None:
        self._backends = backends
        self._repositories = repositories
        self._publication = publication
        self._folding = folding
        self._deletion = BlobDeletion(backends)
        self._manifest_deletion = ManifestDeletion(backends, repositories, publication)
        self._files = TrashFiles(backends)
        self._grounds = PurgeGrounds(backends)
        self._preview = PurgePreview(backends, repositories, self._manifest_deletion)

    def run(
        self,
        name: str,
        digest: Digest,
        *,
        actor: str,
        unknown: Unknown,
        address: str | None = None,
        everywhere: bool = False,
    ) -> Purged:
        """Purge a manifest or a blob of a repository; ``everywhere``: also of each other one that has it.

        Where repositories share objects and ``unknown`` says why, these stay until the same is run again.
        Raises NameUnknown, ManifestUnknown if the repository has nothing of it, TagImmutable, Unavailable, and
        Unsupported naming the manifests that need it: these have to be purged.
        """
        caller, done = _Caller(actor, address), Purged(name, digest)
        all_going = {name: self._take_out(name, digest, caller, done)}
        for other in self._grounds.holders_of(digest, all_going) if everywhere else ():
            try:
                all_going[other] = self._take_out(other, digest, caller, done)
            except RegistryError as error:
                done.keep(digest, error.message, [other])
        done.repositories = sorted(all_going)
        gone = sorted(set().union(*(going.gone for going in all_going.values())))
        reason = self._grounds.reason_to_wait(gone, unknown)
        for each in gone:
            if reason is None:
                self._delete(Digest(each), all_going, done)
            else:
                done.unfinished.append(may_be_needed_told(each, reason))
        done.objects.sort()
        if not done.unfinished:  # what the same again looks for first goes last
            for going in reversed(all_going.values()):
                for manifest in reversed(going.manifests):
                    self._leave_trash(going.repository, manifest, caller, done)
        return done

    def preview(self, name: str, digest: Digest, *, unknown: Unknown, everywhere: bool = False) -> Purged:
        """What ``run`` would come to; nothing is changed. Raises as that does."""
        return self._preview.run(name, digest, unknown=unknown, everywhere=everywhere)

    # ---- one repository

    def _take_out(self, name: str, digest: Digest, caller: _Caller, done: Purged) -> Going:
        """End what a repository has of it, and delete the files that it has of its own. Raises as ``run``."""
        repository = self._repositories.require(name)
        deleted = self._delete_manifest(repository, digest, caller, done)
        with self._backends.database.autocommit() as connection:
            member = memberships.find(connection, repository.id, digest).get()
            naming = purging.trash_naming(connection, repository.id, digest).get()
            needed_by = references.referenced_by(connection, repository.id, digest).get()
        if not (deleted or member or naming):
            raise ManifestUnknown(f"repository {name} has no manifest and no blob {digest}, nor has its trash")
        if needed_by:
            message = f"the blob is needed by {', '.join(needed_by)}; purge these"
            raise Unsupported(message, detail={"manifests": list(needed_by)})
        deleted = deleted or [*self._grounds.deleted_with(repository, digest)]
        going = Going(repository, tuple(map(Digest, dict.fromkeys([*deleted, *naming]))))
        digests = sorted({str(digest), *self._grounds.named(repository, going.manifests)})
        claims: list[Claim] = []
        for start in range(0, len(digests), BLOBS):
            claims += self._end_members(going, digests[start : start + BLOBS], done)
        own = sorted(going.gone) if self._backends.layout.per_repository else []
        going.files = {each: self._grounds.files(name, Digest(each)) for each in own}
        for claim in claims:
            self._carry_out(claim, claim.key, done)
        with contextlib.suppress(StorageError):  # the records are there, and a later fold finds them
            self._folding.fold(name)
        for each in own:
            self._delete_files(going, Digest(each), done)
            done.objects += going.files[each]
        return going

    def _delete_manifest(self, repository: RepositoryRow, digest: Digest, caller: _Caller, done: Purged) -> list[str]:
        """Delete it as a client does; what went with it into the trash, also by a purge that was killed meanwhile."""
        with self._backends.database.autocommit() as connection:
            if manifests.by_digest(connection, repository.id, digest).get() is None:
                return []
        with contextlib.suppress(ManifestUnknown):  # another purge has deleted it meanwhile
            self._manifest_deletion.delete(
                repository.name, digest, actor=caller.actor, address=caller.address, only=None, forced=False
            )
        with self._backends.database.autocommit() as connection:
            row = trash.find(connection, repository.id, digest, after=0.0).get()
        if row is None:
            return []
        batch = self._grounds.went(repository, row.batch)
        done.tags += [f"{repository.name}:{tag}" for each in batch for tag in each.tags]
        return [each.digest for each in batch]

    def _end_members(self, going: Going, digests: Collection[str], done: Purged) -> list[Claim]:
        """End the memberships that nothing else of the repository needs, leased or not.

        Where each repository has its own files these are claimed in the same transaction, so that a purge that is
        killed leaves no file that would be found again.
        """
        claims: list[Claim | None] = []
        repository, layout = going.repository, self._backends.layout
        with self._backends.database.transaction() as connection:
            self._repositories.lock(connection, repository)
            held = memberships.find_all(connection, repository.id, digests).get()
            for digest in digests:
                if self._grounds.is_kept(connection, going, digest, done):
                    continue
                going.gone.add(digest)
                if digest in held:
                    memberships.remove(connection, repository.id, held[digest].id)
                    if layout.per_repository:
                        key = layout.blob(repository.name, Digest(digest))
                        claims.append(self._deletion.claim(connection, held[digest].id, key))
            repositories.raise_version(connection, repository.id)
        return [claim for claim in claims if claim is not None]

    def _delete_files(self, going: Going, digest: Digest, done: Purged) -> None:
        """Delete the files that a repository has of a blob: in its directory, in its trash and in quarantine."""
        backends = self._backends
        try:
            self._deletion.delete_unheld(going.repository, digest)
            backends.driver.delete([backends.layout.quarantine(backends.layout.blob(going.repository.name, digest))])
            self._files.remove(going.repository.name, digest)
        except StorageError as error:
            done.unfinished.append(f"{digest} of {going.repository.name}: {error}")

    def _leave_trash(self, repository: RepositoryRow, digest: Digest, caller: _Caller, done: Purged) -> None:
        """Take a manifest out of the trash, and write down that it went for good."""
        with self._backends.database.transaction() as connection:
            self._repositories.lock(connection, repository)
            row = trash.find(connection, repository.id, digest, after=0.0).get()
            if row is None or manifests.by_digest(connection, repository.id, digest).get() is not None:
                return
            change = Change("delete", digest, None, (), caller.actor, address=caller.address, purged=True)
            pending = change.allot(connection, repository, self._backends.clock())
            trash.remove(connection, repository.id, row.blob_id, before=row.removed_at)
        self._publication.record(pending)
        done.manifests.append(digest)
        self._files.remove(repository.name, digest)  # again: a fold may have made it meanwhile

    # ---- the bytes

    def _delete(self, digest: Digest, all_going: Mapping[str, Going], done: Purged) -> None:
        """Delete every object of a blob that no repository has, and the rows with its bytes."""
        holders = self._grounds.holders_of(digest, all_going)
        if holders:
            done.keep(digest, "other repositories have it, or can restore it", holders[:NAMED])
            return
        looks = (going.files[digest] for going in all_going.values() if digest in going.files)
        done.tell_further_names(digest, looks)
        before = len(done.unfinished) + len(done.unreachable)
        with self._backends.database.transaction() as connection:
            row = blobs.lock(connection, digest).get()
            if row is not None:
                manifest_bodies.remove_unused(connection, row.id)
                is_held = any(holder.is_member for holder in purging.holders(connection, row.id, digest).get())
                claims = [] if is_held else self._claims(connection, row.id, digest, done)
        if row is None:
            self._delete_unknown(digest, done)
            return
        if is_held:
            done.unfinished.append(f"{digest} was pushed again meanwhile")
        for claim in claims:
            if self._carry_out(claim, digest, done):
                done.objects.append(claim.key)
        if len(done.unfinished) + len(done.unreachable) == before:
            done.removed.append(digest)
            done.bytes += row.size

    def _delete_unknown(self, digest: Digest, done: Purged) -> None:
        """Delete an object that no row knows: after a lost database what the trash names has none."""
        stat = self._grounds.unknown_object(digest, done)
        if stat is None:
            return
        key = self._backends.layout.blob("", digest)
        claim = self._deletion.claim_orphan(key, digest, stat)
        if claim is None:
            done.unfinished.append(f"{digest} was pushed again meanwhile")
        elif self._carry_out(claim, digest, done):
            done.objects.append(key)
            done.removed.append(digest)
            done.bytes += stat.size

    def _claims(self, connection: Transaction, blob_id: int, digest: Digest, done: Purged) -> list[Claim]:
        claims: list[Claim] = []
        for each in purging.objects(connection, blob_id).get():
            told = self._grounds.out_of_reach(digest, each)
            if told is not None:
                done.unreachable.append(told)
            else:
                claim = self._deletion.claim(connection, blob_id, each.key)
                if claim is None:
                    done.unfinished.append(being_deleted_told(digest, each))
                else:
                    claims.append(claim)
        return claims

    def _carry_out(self, claim: Claim, what: str, done: Purged) -> bool:
        """Delete what was claimed. False if it is to be done again, which is noted."""
        reason = "its claim ended before the delete was sent"
        try:
            if self._deletion.delete(claim):
                return True
        except StorageError as error:
            reason = str(error)
        done.unfinished.append(f"{what}: {reason}")
        return False
