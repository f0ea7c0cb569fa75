"""*Emptying* the trash before its time: the manifests that were deleted first, with what nothing else needs (I7).

What a push may be about to name stays: members with a lease, and all of a repository with an upload that takes longer
than a lease, or with manifests that were not read yet. The collection takes these later.

Where repositories share objects none is deleted here, since a repository that this database does not know may need it:
that is for a run of the collection, which makes sure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database import blobs, memberships, references, repositories
from registry.database.collection import emptying, purging, trash
from registry.images.blob_deletion import BlobDeletion
from registry.images.repositories import require_row
from registry.images.trash.trash_files import TrashFiles
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.database.collection.emptying import MemberRow
    from registry.database.collection.trash import ExpiredRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.images.blob_deletion import Claim
    from registry.images.write_gate import WriteGate

LONG: Final = 0.5
"""The share of a lease that an upload may take before what its client was told of may have none any more."""
MEMBERS: Final = 100
"""Members whose end one transaction decides."""


class Emptied(NamedTuple):
    """What came of one manifest of the trash."""

    digests: tuple[str, ...] = ()
    """The manifest, unless it was restored, and the members that ended with it: nothing may need them any more."""
    bytes: int = 0
    """Bytes of these."""
    leased: int = 0
    """Bytes of members that stay, because a push may be about to name them."""
    gone: bool = False
    """It had left the trash before."""
    files: tuple[str, ...] = ()
    """The keys of the files that go, where each repository has its own; of a preview alone."""


class TrashEmptying:
    """Any thread, any process: two at once are harmless. Killed in the middle, the collection goes on."""

    def __init__(self, backends: Backends, write_gate: WriteGate) -> None:
        self._backends = backends
        self._write_gate = write_gate
        self._deletion = BlobDeletion(backends)
        self._files = TrashFiles(backends)

    def remove(self, row: ExpiredRow) -> Emptied:
        """Remove a manifest from the trash. Raises Unavailable where no change may commit, StorageError."""
        digests = self._digests(row)
        with self._backends.database.transaction() as connection:
            is_open = self._write_gate.require_open(connection)
            require_row(repositories.lock(connection, row.repository_id).get())
            is_open.get()
            if not trash.remove(connection, row.repository_id, row.blob_id, before=row.removed_at):
                return Emptied(gone=True)
            own = self._own_size(connection, row)
        ended: list[MemberRow] = []
        leased = 0
        for start in range(0, len(digests), MEMBERS):
            unneeded, claims = self._end(row, digests[start : start + MEMBERS])
            ended += [member for member in unneeded if not member.is_leased]
            leased += sum(member.size for member in unneeded if member.is_leased)
            for claim in claims:
                self._deletion.delete(claim)
        self._remove_files(row, digests)
        return _emptied(ended, {} if own is None else {row.digest: own}, leased)

    def preview(self, row: ExpiredRow, gone: set[tuple[int, str]]) -> Emptied:
        """What ``remove`` would do once the manifests of ``gone``, each with its repository, have been removed.

        Nothing is changed but ``gone``, to which this one is added.
        """
        gone.add((row.repository_id, row.digest))
        digests, leased = self._digests(row), 0
        ended: list[MemberRow] = []
        with self._backends.database.snapshot() as connection:
            repository = repositories.get(connection, row.repository_id).get()
            is_kept = repository is None or self._keeps_all(connection, repository)
            own = self._own_size(connection, row)
            unneeded = set(self._unneeded(connection, row, digests, gone))
            for start in range(0, 0 if is_kept else len(digests), MEMBERS):
                several = digests[start : start + MEMBERS]
                members = emptying.unnamed_among(connection, row.repository_id, several).get()
                ended += [each for each in members if each.digest in unneeded and not each.is_leased]
                leased += sum(each.size for each in members if each.digest in unneeded and each.is_leased)
        done = _emptied(ended, {} if own is None else {row.digest: own}, leased)
        if not self._backends.layout.per_repository:
            return done
        layout = self._backends.layout
        files = [layout.blob(row.repository, Digest(member.digest)) for member in ended]
        return done._replace(
            files=(*files, *(layout.trash(row.repository, Digest(digest)) for digest in sorted(unneeded)))
        )

    def _digests(self, row: ExpiredRow) -> list[str]:
        """The manifest, and what it named."""
        with self._backends.database.autocommit() as connection:
            named = trash.references(connection, row.repository_id, row.blob_id).get()
        return list(dict.fromkeys([row.digest, *(each.digest for each in named)]))

    @staticmethod
    def _own_size(connection: Transaction, row: ExpiredRow) -> int | None:
        """The bytes of the manifest; None if it was restored."""
        if memberships.find(connection, row.repository_id, row.digest).get() is not None:
            return None
        found = blobs.find(connection, row.digest).get()
        return found.size if found is not None else 0

    @staticmethod
    def _unneeded(
        connection: Transaction, row: ExpiredRow, digests: Sequence[str], gone: set[tuple[int, str]]
    ) -> Iterator[str]:
        """Those of ``digests`` that no manifest of the trash needs but such as are gone."""
        for digest in digests:
            naming = purging.trash_naming(connection, row.repository_id, digest).get()
            if all((row.repository_id, each) in gone for each in naming):
                yield digest

    def _keeps_all(self, connection: Transaction, repository: RepositoryRow) -> bool:
        """Whether no member of a repository ends: what names it is not known, or a push takes longer than leases."""
        now, lease = self._backends.clock(), self._backends.policy.lease
        is_long = emptying.any_long_upload(connection, repository.name, since=now - lease, before=now - lease * LONG)
        unread = references.incomplete_of(connection, repository.id, after=-1, count=1).get()
        return bool(repository.is_unread or repository.missing_manifests or unread or is_long.get())

    def _end(self, row: ExpiredRow, digests: Sequence[str]) -> tuple[list[MemberRow], list[Claim]]:
        """End the memberships that nothing needs; those with a lease stay, and are returned as well.

        Files of the repository are claimed in the same transaction, so that none is left that would be found again.
        """
        claims: list[Claim | None] = []
        with self._backends.database.transaction() as connection:
            is_open = self._write_gate.require_open(connection)
            repository = require_row(repositories.lock(connection, row.repository_id).get())
            is_open.get()
            if self._keeps_all(connection, repository):
                return [], []
            unneeded = emptying.unneeded_among(connection, repository.id, digests).get()
            ended = [member for member in unneeded if not member.is_leased]
            for member in ended:
                memberships.remove(connection, repository.id, member.blob_id)
                if self._backends.layout.per_repository:
                    key = self._backends.layout.blob(repository.name, Digest(member.digest))
                    claims.append(self._deletion.claim(connection, member.blob_id, key))
            if ended:
                repositories.raise_version(connection, repository.id)
        return unneeded, [claim for claim in claims if claim is not None]

    def _remove_files(self, row: ExpiredRow, digests: Sequence[str]) -> None:
        """Delete the files that nothing of the trash needs any more; the rows say so already."""
        self._files.leave(row.repository_id, row.repository, [Digest(digest) for digest in digests])


def _emptied(ended: Sequence[MemberRow], own: dict[str, int], leased: int) -> Emptied:
    gone = {member.digest: member.size for member in ended} | own
    return Emptied(tuple(sorted(gone)), sum(gone.values()), leased)
