"""*Grounds* of a purge: what keeps a blob in its repository or elsewhere, and the files that a repository has of it.

They are asked by a purge, of what is left after its last step, and by its preview, of what would be.

Tests: ``tests/images/trash/test_purge.py``, ``tests/images/trash/test_purge_preview.py``.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from registry.database import blobs, changes, manifests, references
from registry.database.collection import purging, trash
from registry.database.references import LISTED
from registry.images.records.journal import Journal, understood
from registry.oci.digest import Digest
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from registry.database.collection.purging import HolderRow, ObjectRow
    from registry.database.collection.trash import TrashRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.backends import Backends
    from registry.storage.driver import LinkedStat, ObjectStat

    Unknown = Callable[[], str | None]
    """Says why a repository may need what no row says that it needs, and what to do then; None if none may."""

NAMED: Final = 20
"""Repositories that are named for a blob, at most."""


@dataclass(slots=True)
class Purged:
    """What came of a purge, or would come of it."""

    repository: str
    digest: str
    repositories: list[str] = field(default_factory=list)
    """Those that lose something."""
    tags: list[str] = field(default_factory=list)
    """The tags that go, as REPO:TAG."""
    manifests: list[str] = field(default_factory=list)
    """Manifests that went for good, those attached too."""
    removed: list[str] = field(default_factory=list)
    """Blobs of which storage has nothing more that this registry may delete, manifests included."""
    bytes: int = 0
    """Their bytes."""
    objects: list[str] = field(default_factory=list)
    """The keys of the files or objects that went."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    """Blobs that stay, each with the reason, and the manifests or repositories that have it."""
    unreachable: list[str] = field(default_factory=list)
    """What this registry cannot delete, or cannot know."""
    unfinished: list[str] = field(default_factory=list)
    """What could not be deleted yet: the same purge again goes on."""

    def document(self, *, signed_urls: int) -> dict[str, Any]:
        """As a JSON value; ``signed_urls`` are the seconds for which addresses in the store are good."""
        return {**asdict(self), "signed_urls": signed_urls}

    def keep(self, digest: str, because: str, repositories: Sequence[str], needed_by: Sequence[str] = ()) -> None:
        """Tell of a blob that stays."""
        entry = {"digest": digest, "because": because, "repositories": [*repositories], "manifests": [*needed_by]}
        self.kept.append(entry)

    def tell_further_names(self, digest: str, looks: Iterable[Mapping[str, LinkedStat]]) -> None:
        """Tell of names of these files that are not this registry's.

        Each look was taken when the files of those before it were deleted.
        """
        left: dict[str, int] = {}
        for files in looks:
            links: dict[str, int] = {}
            for found in files.values():
                links[found.stat.etag] = links.get(found.stat.etag, found.links) - 1
            left |= links
        count = max(left.values(), default=0)
        if count > 0:
            self.unreachable.append(
                f"{digest}: its file has {count} more names that are not this registry's (a backup with hard links?)"
            )


@dataclass(slots=True)
class Going:
    """What is taken out of one repository."""

    repository: RepositoryRow
    manifests: tuple[Digest, ...]
    """Those of its trash; their rows go last, so that a purge that was killed is found again."""
    gone: set[str] = field(default_factory=set)
    """The blobs that it has no more."""
    files: dict[str, Mapping[str, LinkedStat]] = field(default_factory=dict)
    """By blob the files that the repository had of it, as they were before these were deleted."""
    planned: frozenset[str] | None = None
    """In a preview the manifests that are still there; None where all that goes is gone."""


class PurgeGrounds:
    """Any thread."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._journal = Journal(backends)

    def went(self, repository: RepositoryRow, batch: int) -> list[TrashRow]:
        """What a caller has had deleted in a batch, the last first; what is there again is left out.

        What a collection has deleted stays in the trash: where one that was killed had begun with the same manifest,
        its batch goes on, which has other manifests of its closure too. Raises StorageError.
        """
        causes: dict[int, str | None] = {}
        with self._backends.database.autocommit() as connection:
            rows = trash.of_batch(connection, repository.id, batch, after=0.0).get()
            rows = [row for row in rows if manifests.by_digest(connection, repository.id, row.digest).get() is None]
            for row in rows:
                unfolded = changes.find(connection, repository.id, row.sequence).get()
                if unfolded is not None:
                    causes[row.sequence] = understood(repository.name, unfolded).cause
        left = {row.sequence for row in rows} - causes.keys()
        for record in self._journal.backwards(repository.name, max(left) + 1) if left else ():
            if record.sequence in left:
                causes[record.sequence] = record.cause
                left.remove(record.sequence)
            if not left or record.sequence < min(left):
                break
        return [row for row in rows if causes.get(row.sequence, "") is None]

    def deleted_with(self, repository: RepositoryRow, digest: Digest) -> list[Digest]:
        """A manifest of the trash, and what a client or a purge has deleted with it; what is there again is left out.

        So a purge that is run again finds what went with its manifest before. Nothing if the manifest is not in the
        trash. Raises StorageError.
        """
        with self._backends.database.autocommit() as connection:
            row = trash.find(connection, repository.id, digest, after=0.0).get()
            if row is None:
                return []
            batch = trash.of_batch(connection, repository.id, row.batch, after=0.0).get()
        if len(batch) == 1 or batch[0].sequence != row.sequence:  # what goes with a manifest goes before it
            return [digest]
        went = [Digest(each.digest) for each in self.went(repository, row.batch)]
        return went if digest in went else [digest]

    def named(self, repository: RepositoryRow, trashed: Collection[Digest]) -> Iterator[str]:
        """Those manifests of its trash, and what they named."""
        for manifest in trashed:
            yield manifest
            with self._backends.database.autocommit() as connection:
                row = trash.find(connection, repository.id, manifest, after=0.0).get()
                named = trash.references(connection, repository.id, row.blob_id).get() if row is not None else []
            yield from (each.digest for each in named)

    @staticmethod
    def is_kept(connection: Transaction, going: Going, digest: str, done: Purged) -> bool:
        """Whether the repository keeps a blob; the reason is told then."""
        repository, planned = going.repository, going.planned or frozenset()
        if digest not in planned and manifests.by_digest(connection, repository.id, digest).get() is not None:
            done.keep(digest, "it is a manifest", [repository.name], [digest])
            return True
        naming = needed_by(connection, repository.id, digest, planned)
        if naming:
            done.keep(digest, "a manifest needs it", [repository.name], naming)
            return True
        trashed = set(purging.trash_naming(connection, repository.id, digest).get()) - set(going.manifests)
        if trashed:
            done.keep(digest, "a manifest in the trash needs it", [repository.name], sorted(trashed))
        return bool(trashed)

    def holders_of(self, digest: Digest, all_going: Mapping[str, Going]) -> list[str]:
        """The repositories that have a blob or can restore it, but for what goes."""
        found: list[str] = []
        after = -1
        while True:
            with self._backends.database.autocommit() as connection:
                row = blobs.find(connection, digest).get()
                blob_id = purging.NO_BLOB if row is None else row.id
                page = purging.holders(connection, blob_id, digest, after=after).get()
                found += [holder.name for holder in page if self._holds(connection, holder, digest, all_going)]
            if len(page) < purging.PAGE:
                return sorted(found)
            after = page[-1].id

    @staticmethod
    def _holds(connection: Transaction, holder: HolderRow, digest: str, all_going: Mapping[str, Going]) -> bool:
        going = all_going.get(holder.name)
        if going is None or (holder.is_member and not (going.planned is not None and digest in going.gone)):
            return True
        return bool(set(purging.trash_naming(connection, holder.id, digest).get()) - set(going.manifests))

    def reason_to_wait(self, gone: Collection[str], unknown: Unknown) -> str | None:
        """Why no object may be deleted now; None where each repository has its own."""
        return unknown() if gone and not self._backends.layout.per_repository else None

    def unknown_object(self, digest: Digest, done: Purged) -> ObjectStat | None:
        """An object of which no row knows, where all share objects and nothing names it; what does is told."""
        if self._backends.layout.per_repository:
            return None
        try:
            stat = self._backends.driver.stat(self._backends.layout.blob("", digest))
        except PathNotFound:
            return None
        with self._backends.database.autocommit() as connection:
            naming = purging.naming(connection, digest, count=NAMED).get()
        if naming:
            done.keep(digest, "a manifest of another repository names it", naming)
            return None
        return stat

    def out_of_reach(self, digest: str, found: ObjectRow) -> str | None:
        """Why an object is none that this registry may delete; None if it is one."""
        place = f"{found.key} in {found.store}"
        if found.migration is not None:
            return f"{digest}: the migration {found.migration} needs {place} until it is finalized"
        if found.store != self._backends.driver.name:
            return f"{digest}: {place} is in a store that is not configured here"
        return None

    def files(self, name: str, digest: Digest) -> dict[str, LinkedStat]:
        """What a repository has of a blob where each has files of its own: there, in its trash, in quarantine."""
        layout, found = self._backends.layout, dict[str, "LinkedStat"]()
        own = layout.blob(name, digest)
        for key in (own, layout.trash(name, digest), layout.quarantine(own)):
            with contextlib.suppress(PathNotFound):
                found[key] = self._backends.driver.stat_links(key)
        return found


def needed_by(connection: Transaction, repository_id: int, digest: str, planned: Collection[str]) -> list[str]:
    """The manifests of a repository that name a blob, at most LISTED, but for those that go."""
    count = LISTED + len(planned)
    naming = references.referenced_by(connection, repository_id, digest, count=count).get()
    return [each for each in naming if each not in planned][:LISTED]


def being_deleted_told(digest: str, found: ObjectRow) -> str:
    """What is told of an object that cannot be claimed."""
    return f"{digest}: {found.key} in {found.store} is being deleted, or may be by a late delete"


def may_be_needed_told(digest: str, reason: str) -> str:
    """What is told of a blob while a repository may need it of which no row says so."""
    return f"{digest}: another repository may need it: {reason}"
