"""Rollback applier: gives one repository back to the source registry, and notes what it has then as its baseline.

Tests: ``tests/migration/rollback/test_rollback.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from registry.database import repositories
from registry.database.blobs import QUARANTINED
from registry.images.blob_locations import BlobLocations
from registry.images.keyed_locks import KeyedLocks
from registry.images.migration_journal.documents import Baseline, IndexAt, ManifestInfo
from registry.images.verification import hash_object
from registry.migration.report import Problem, ProblemKind, Unfinished
from registry.migration.rollback.steps import Copy, Delete, Source, Write
from registry.migration.source.detection import classify
from registry.migration.source.distribution import ROOT
from registry.migration.source.objects import ObjectKind
from registry.storage.errors import AlreadyExists, PathNotFound, PreconditionFailed

if TYPE_CHECKING:
    from registry.images.blob_locations import Location
    from registry.migration.context import Context
    from registry.migration.rollback.steps import Step, TargetContent
    from registry.migration.rollback.target import RollbackTarget
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat


class _Stale(Exception):
    """The source of a copy is gone, or is not the object that was noted."""

    def __init__(self, digest: Digest, key: str) -> None:
        super().__init__(key)
        self.digest = digest
        self.key = key


@dataclass(slots=True)
class RepositoryResult:
    """What was done for one repository."""

    name: str
    copied: int = 0
    copied_bytes: int = 0
    written: int = 0
    """Indexes and links."""
    deleted: int = 0
    """Links."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.copied or self.written or self.deleted)


class RollbackApplier:
    """Gives repositories back. Any thread; giving one back twice is the same as once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._driver = context.driver
        self._inventory = context.inventory
        self._locations = BlobLocations(context.registry.backends)
        self._copying = KeyedLocks()

    def give(self, asked: RollbackTarget) -> RepositoryResult:
        """Make the source registry have a target. Raises StorageError; Unfinished if another process writes there."""
        given = RepositoryResult(asked.wanted.located.name)
        stale: set[Digest] = set()
        while True:
            wanted = self._hashed(asked, stale, given)
            try:
                self._do_all(wanted, asked, given)
                break
            except _Stale as found:  # its source has changed since it was noted
                if found.digest in stale:
                    raise Unfinished(f"{found.key} is written by another process: run it again") from found
                stale.add(found.digest)
        lost = {loss.digest for loss in self._context.layout.losses(wanted, self._inventory)}
        base = self._base(wanted, lost, is_whole=self._is_whole(asked))
        if base != asked.base:  # also if a process that did the steps was killed before it
            self._context.journal.write_base(base)
        return given

    def _do_all(self, wanted: TargetContent, asked: RollbackTarget, given: RepositoryResult) -> None:
        """Do the steps that are left. Raises _Stale, and Unfinished as ``give`` does."""
        try:
            for step in self._context.layout.steps(wanted, self._inventory):
                if asked.ours is not None and isinstance(step, Write) and step.key == _index_of(wanted):
                    self._context.journal.save_ours(given.name, asked.ours)
                    self._do(step, given)
                    self._note_known(given.name, step.key)
                else:
                    self._do(step, given)
        except (AlreadyExists, PreconditionFailed) as error:
            raise Unfinished(f"{error.key} was written by another process meanwhile; run it again") from error

    def _do(self, step: Step, given: RepositoryResult) -> None:
        if isinstance(step, Copy):
            with self._copying.hold(step.target):
                if self._inventory.is_restored(step.target):
                    return  # another repository has copied it since the steps were made
                try:
                    stat = self._driver.copy(step.source, step.target, size=step.size, if_etag=step.etag)
                except (PathNotFound, PreconditionFailed) as error:
                    raise _Stale(step.digest, step.source) from error
                self._note(step.target, stat)
                self._inventory.add_restored(step.target)
            given.copied += 1
            given.copied_bytes += step.size
        elif isinstance(step, Delete):
            self._driver.delete(step.keys)
            given.deleted += len(step.keys)
            for key in step.keys:
                self._inventory.remove(key)
        else:
            if step.if_etag:
                stat = self._driver.write(step.key, step.data, if_etag=step.if_etag)
            else:
                stat = self._driver.write(step.key, step.data, if_absent=True)
            self._note(step.key, stat)
            given.written += 1

    def _note(self, key: str, stat: ObjectStat) -> None:
        """Have an object that was written in the inventory, as another listing would show it."""
        entry = classify(key)
        if entry is not None:
            self._inventory.note(key, entry, stat)

    def _note_known(self, name: str, key: str) -> None:
        """Note in the database that it has what this index says, because the index was made of its rows."""
        etag = self._inventory.etag(key)
        with self._context.registry.backends.database.transaction() as connection:
            row = repositories.find(connection, name).get()
            if row is not None:
                repositories.set_etag(connection, row.id, etag)

    # ---- sources

    def _hashed(self, asked: RollbackTarget, stale: set[Digest], given: RepositoryResult) -> TargetContent:
        """The content with sources that were hashed; a digest that is named and has none left is a problem (M2).

        What was noted about the sources of ``stale`` digests is not trusted.
        """
        sources: dict[Digest, Source] = dict(asked.wanted.sources)
        sizes = dict(asked.wanted.sizes())
        named = {
            digest
            for manifest in asked.wanted.manifests.values()
            for digest in (*manifest.named_blobs, *manifest.children)
        }
        given.problems = []
        for digest in sorted(asked.unhashed | stale):
            location = self._verified_location(digest, sizes[digest])
            if location is not None:
                sources[digest] = Source(location.key, location.etag)
                continue
            bad = sources.pop(digest)
            if digest not in named and digest not in asked.wanted.manifests:
                continue  # the source registry has deleted it, and what named it
            detail = "its bytes are not those of its digest, and no other object has them: it was not given back"
            given.problems.append(Problem(ProblemKind.WRONG_DIGEST, given.name, bad.key, digest, detail))
        return replace(asked.wanted, sources=sources)

    def _verified_location(self, digest: Digest, size: int) -> Location | None:
        location = self._locations.best(digest)
        while location is not None and not (location.is_verified and self._is_as_noted(location)):
            etag = self._hash(location, digest)
            if etag is not None:
                self._locations.note_verified(location, etag)
                return location._replace(etag=etag, is_verified=True)
            location = self._locations.mark_lost_and_next(digest, size, location, QUARANTINED)
        return location

    def _is_as_noted(self, location: Location) -> bool:
        try:
            return self._driver.stat(location.key).etag == location.etag
        except PathNotFound:
            return False

    def _hash(self, location: Location, digest: Digest) -> str | None:
        """The etag of the object; None if it has other bytes, or is not there."""
        try:
            return hash_object(self._driver, location.key, digest)
        except PathNotFound:
            return None

    # ---- the base

    def _is_whole(self, asked: RollbackTarget) -> bool:
        """Whether the source registry has only what was adopted, so that the baseline says all.

        A repository that was pushed to in both registries, and that no pass has adopted since, has more.
        """
        if asked.base is not None:
            return bool(asked.base.fingerprint)
        return self._inventory.repository(asked.wanted.located.path) is None

    def _base(self, wanted: TargetContent, lost: set[Digest], *, is_whole: bool) -> Baseline:
        """Without ``is_whole`` the fingerprint is left out, so that the next migration reads the repository again."""
        located = wanted.located
        index = None
        if wanted.document is not None:
            index = IndexAt(wanted.document.key, self._inventory.etag(wanted.document.key))
        is_tree = self._context.layout.bytes_kind is ObjectKind.DATA
        return Baseline(
            name=located.name,
            prefix=ROOT if is_tree else located.prefix,
            index=index,
            fingerprint=self._inventory.fingerprint(located.path) if is_whole else "",
            overwritten=False,
            tags={tag: digest for tag, digest in wanted.tags.items() if digest not in lost},
            manifests={
                digest: ManifestInfo(manifest.media_type, manifest.size)
                for digest, manifest in wanted.manifests.items()
                if digest not in lost
            },
        )


def _index_of(wanted: TargetContent) -> str:
    return "" if wanted.document is None else wanted.document.key
