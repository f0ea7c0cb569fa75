"""Repository adoption: the index of one repository of the source registry becomes ours, and the database follows.

Tests: ``tests/migration/adopt/test_adopt.py``.
"""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from registry.database import changes, manifest_bodies, manifests, memberships, repositories, tags
from registry.images.migration_journal.documents import Baseline, IndexAt, ManifestInfo
from registry.images.records.journal import Journal as Records
from registry.images.records.journal import NumberTaken
from registry.migration.adopt.baselines import content_of, source_content
from registry.migration.adopt.merge import Content, difference
from registry.migration.report import Problem, ProblemKind
from registry.migration.source.objects import RepositoryPath
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid, ManifestUnknown, RegistryError, Unsupported
from registry.oci.index import Index, Owner
from registry.oci.withheld import Withheld
from registry.storage.errors import AlreadyExists, ObjectTooLarge, PathNotFound, PreconditionFailed

if TYPE_CHECKING:
    from registry.database.repositories import RepositoryRow as OurRow
    from registry.migration.adopt.baselines import Baselines
    from registry.migration.adopt.merge import Difference, Kept
    from registry.migration.context import Context
    from registry.migration.source.objects import RepositoryRow

ATTEMPTS = 20
"""How often Stowage may write the index between our read and our write."""


class Outcome(enum.Enum):
    """What became of a repository in a pass."""

    TAKEN = "taken"
    CHANGED = "changed"
    """The source registry has changed it again; the next pass adopts it."""
    REFUSED = "refused"
    """It cannot be adopted; ``problems`` say why."""


@dataclass(slots=True)
class AdoptionResult:
    """What became of one repository."""

    name: str
    outcome: Outcome = Outcome.TAKEN
    problems: list[Problem] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)


class RepositoryAdoption:
    """Adopts repositories as a context has read them. Any thread; adopting one twice is the same as once."""

    def __init__(self, context: Context, bases: Baselines) -> None:
        self._context = context
        self._registry = context.registry
        self._journal = context.journal
        self._bases = bases
        self._records = Records(context.registry.backends)
        self._actor = f"migration {context.journal.id}"

    def take(self, row: RepositoryRow) -> AdoptionResult:
        """Adopt a repository of the inventory. Raises StorageError, RegistryError."""
        located = RepositoryPath(row.name, row.path, row.prefix)
        return self._take(_Repository(self._context, located, IndexAt(row.index_key, row.index_etag)))

    def drop(self, located: RepositoryPath) -> AdoptionResult:
        """Follow the removal of a repository that was adopted once. Raises as ``take`` does."""
        return self._take(_Repository(self._context, located, IndexAt("", "")))

    def _take(self, repository: _Repository) -> AdoptionResult:
        taken = AdoptionResult(repository.located.name)
        current = self._bases.current(taken.name)
        earlier = self._bases.earlier(taken.name)
        for _ in range(ATTEMPTS):
            with contextlib.suppress(PreconditionFailed, AlreadyExists):
                return self._attempt(repository, taken, current, earlier)
        raise RegistryError(f"the index of {taken.name} is written faster than it can be merged")

    def _attempt(
        self, repository: _Repository, taken: AdoptionResult, current: Baseline | None, earlier: Baseline | None
    ) -> AdoptionResult:
        """Raises PreconditionFailed or AlreadyExists if Stowage has written the index meanwhile."""
        try:
            there = self._read(taken.name)
        except (ManifestInvalid, ObjectTooLarge) as error:
            return self._refuse(taken, f"the index at the key of ours cannot be read: {error}")
        is_taken = there.parsed.migration == self._journal.id
        if there.owner is Owner.FOREIGN and not is_taken:
            if not repository.is_overwritten:
                return self._refuse(taken, "the key of our index has one that neither registry wrote")
            if there.etag != repository.index_etag:
                taken.outcome = Outcome.CHANGED
                return taken
        base = content_of(current if is_taken else earlier)
        theirs = source_content(self._context.inventory, taken.name, base)
        ours = self._ours(taken.name, there.etag)
        found = difference(base, theirs, ours.content)
        taken.kept = found.kept
        self._remove(taken.name, found, base)
        new = repository.base(theirs)
        if not is_taken:
            self._journal.write_base(new)
        given = ours if there.owner is Owner.FOREIGN and earlier is not None else None
        merged = self._merged(repository, there, found, theirs, ours, given)
        etag = self._write(repository, there, merged, is_taken=is_taken)
        self._follow(repository, etag)
        if is_taken:
            self._journal.write_base(new)
        return taken

    def _refuse(self, taken: AdoptionResult, detail: str) -> AdoptionResult:
        key = self._registry.backends.layout.index(taken.name)
        taken.outcome = Outcome.REFUSED
        taken.problems = [Problem(ProblemKind.NAME_COLLISION, taken.name, key, "", detail)]
        return taken

    def _read(self, name: str) -> _There:
        try:
            data, stat = self._registry.backends.index_file.read(name)
        except PathNotFound:
            return _There(b"", Index.empty(), Owner.EMPTY, "")
        index = Index.parse(data)
        return _There(data, index, index.owner, stat.etag)

    def _ours(self, name: str, etag: str) -> _Ours:
        """What Stowage has, once the database knows the index with this etag, and storage each change."""
        row = self._registry.reconciliation.current(name, etag)
        if row is None:
            return _Ours(Content(), 0)
        self._record(row)
        with self._registry.backends.database.snapshot() as connection:
            current = repositories.find(connection, name).get()
            our_tags = tags.of_repository(connection, row.id).get()
            our_manifests = manifests.of_repository(connection, row.id).get()
        content = Content(
            {tag: Digest(named.digest) for tag, named in our_tags.items()},
            {Digest(digest): ManifestInfo(named.media_type, named.size) for digest, named in our_manifests.items()},
        )
        return _Ours(content, 0 if current is None else current.sequence)

    def _record(self, row: OurRow) -> None:
        """Make durable what is committed: a baseline that was noted after a change of ours must not outlive it."""
        with self._registry.backends.database.snapshot() as connection:
            unfolded = changes.of_repository(connection, row.id).get()
        for change in unfolded:
            if change.state == changes.PENDING:
                with contextlib.suppress(NumberTaken):  # the next fold finds out
                    self._records.write(row.name, change.sequence, change.record)

    def _row(self, name: str) -> OurRow | None:
        with self._registry.backends.database.snapshot() as connection:
            return repositories.find(connection, name).get()

    def _remove(self, name: str, found: Difference, base: Content) -> None:
        """Remove what went from the source registry, as clients could; what Stowage has moved meanwhile stays."""
        for tag in found.gone_tags:
            with contextlib.suppress(ManifestUnknown):
                self._registry.manifests.untag(name, tag, actor=self._actor, only=base.tags[tag], forced=True)
        waiting = found.gone_manifests
        while waiting:  # an index goes before what it lists
            left = [digest for digest in waiting if not self._delete(name, digest)]
            if len(left) == len(waiting):
                return
            waiting = left

    def _delete(self, name: str, digest: Digest) -> bool:
        """False if another manifest lists it."""
        try:
            self._registry.manifests.delete(name, digest, actor=self._actor, only=(), forced=True)
        except ManifestUnknown:
            return True
        except Unsupported:
            return False
        return True

    def _merged(
        self,
        repository: _Repository,
        there: _There,
        found: Difference,
        theirs: Content,
        ours: _Ours,
        given: _Ours | None,
    ) -> bytes:
        """The index with what the source registry changed; references that it does not have are withheld.

        ``given`` is what Stowage has if an earlier migration gave this key back; None otherwise. It is in the index
        from now on, and in no record that is still to be folded: the source registry may have moved on since.
        """
        index, folded = there.parsed, there.parsed.folded
        if there.owner is Owner.FOREIGN:
            folded = max(self._folded_before(repository.located.name), given.sequence if given is not None else 0)
        index.folded = folded  # which says that it is ours
        index.migration = self._journal.id
        named = theirs.manifests | found.manifests
        tags = index.tags()
        for tag, digest in found.tags.items():
            if tag not in tags or tags[tag].digest != digest:
                index.set_tag(tag, Descriptor(named[digest].media_type, digest, named[digest].size))
        for digest, said in found.manifests.items():
            index.add_manifest(Descriptor(said.media_type, digest, said.size))
        times = self._context.inventory.times(repository.located.name)
        index.fill(times, {tag: times[at.digest] for tag, at in index.tags().items() if at.digest in times})
        index.withheld = self._withheld(repository, index, ours.content)
        if given is not None:
            _keep(index, given.content, found)
        return index.serialise()

    def _withheld(self, repository: _Repository, index: Index, ours: Content) -> Withheld:
        """What the index withholds already, without what the source registry has by now; and what it names and lacks.

        What Stowage's repository has by a push or mount is left out.
        """
        lacks = repository.unlinked()
        with self._registry.backends.database.snapshot() as connection:
            row = repositories.find(connection, repository.located.name).get()
            held = memberships.find_all(connection, row.id, lacks.blobs).get() if row is not None else {}
        has = Withheld(frozenset(map(Digest, held)), frozenset(ours.manifests))
        return (index.withheld - repository.linked(index.withheld)) | (lacks - has)

    def _write(self, repository: _Repository, there: _There, data: bytes, *, is_taken: bool) -> str:
        """Write the index; returns its etag. Raises PreconditionFailed, AlreadyExists."""
        index_file, name = self._registry.backends.index_file, repository.located.name
        if data == there.data:
            return there.etag
        if repository.is_overwritten and there.etag and not is_taken:
            self._journal.save_index(name, there.data, replace=there.owner is Owner.FOREIGN)
        if there.etag and not repository.has_marker:
            index_file.create_marker(name)
        return index_file.write(name, data, there.etag)

    def _folded_before(self, name: str) -> int:
        """The last record that was in our index when a rollback gave its key back; 0 if none did."""
        ours = self._journal.locations.ours(name)
        return 0 if ours is None else Index.parse(ours).folded

    def _follow(self, repository: _Repository, etag: str) -> None:
        """Bring the database to what the index says; the bytes of manifests that were read need not be read again."""
        row = self._row(repository.located.name)
        if row is not None and not row.is_unread and row.etag == etag:
            return
        bodies = self._context.inventory.bodies(repository.located.name)
        with self._registry.backends.database.transaction() as connection:
            for digest, body in bodies:
                manifest_bodies.bring(connection, digest, body)
        self._registry.reconciliation.reconcile(repository.located.name)


def _keep(index: Index, ours: Content, found: Difference) -> None:
    """Add what Stowage has and the source registry did not change."""
    kept = {digest: said for digest, said in ours.manifests.items() if digest not in found.gone_manifests}
    for digest, said in kept.items():
        index.add_manifest(Descriptor(said.media_type, digest, said.size))
    for tag, digest in ours.tags.items():
        if digest in kept and tag not in found.gone_tags and tag not in found.tags:
            index.set_tag(tag, Descriptor(kept[digest].media_type, digest, kept[digest].size))


class _Ours(NamedTuple):
    """What Stowage has, at one moment."""

    content: Content
    sequence: int
    """The number of the last change that is in it."""


class _There(NamedTuple):
    """The index at the key of ours."""

    data: bytes
    parsed: Index
    owner: Owner
    etag: str
    """Empty if there is none."""


class _Repository:
    """A repository of the source registry as an inventory has it."""

    def __init__(self, context: Context, located: RepositoryPath, index: IndexAt) -> None:
        """``index`` is empty if there is none."""
        self._inventory = context.inventory
        self.located = located
        self._index_key, self.index_etag = index
        self.is_overwritten = context.layout.overwrites_index(self.located)
        marker = context.registry.backends.layout.marker(located.name)
        self._kinds = context.layout.member_kinds
        self.has_marker = self._inventory.find(marker) is not None

    def base(self, theirs: Content) -> Baseline:
        """The baseline that is noted once this was adopted."""
        return Baseline(
            name=self.located.name,
            prefix=self.located.prefix,
            index=IndexAt(self._index_key, self.index_etag) if self._index_key else None,
            fingerprint=self._inventory.fingerprint(self.located.path),
            overwritten=self.is_overwritten,
            tags=theirs.tags,
            manifests=theirs.manifests,
        )

    def unlinked(self) -> Withheld:
        """What its manifests name, and the source registry does not have in this repository."""
        found = self._inventory.unlinked(self.located.name)
        return Withheld(
            frozenset(digest for digest, is_manifest in found if not is_manifest),
            frozenset(digest for digest, is_manifest in found if is_manifest),
        )

    def linked(self, references: Withheld) -> Withheld:
        """Those that the source registry has in this repository."""

        def has(digest: Digest) -> bool:
            return self._inventory.has_digest(self.located.path, digest, self._kinds)

        return Withheld(frozenset(filter(has, references.blobs)), frozenset(filter(has, references.manifests)))
