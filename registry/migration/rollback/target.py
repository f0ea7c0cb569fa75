"""Rollback targets: what the source registry is to hold, by the rows of the database, the baselines and the listing.

Tests: ``tests/migration/rollback/test_rollback.py``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from registry.database import (
    blob_locations,
    blobs,
    manifest_bodies,
    manifests,
    memberships,
    migration_queries,
    references,
    repositories,
    tags,
)
from registry.images.backends import MAX_MANIFEST
from registry.images.index_file import MAX_INDEX
from registry.migration.rollback.steps import Source, SourceIndex, TargetContent, WantedManifest
from registry.migration.source.distribution import ROOT
from registry.migration.source.objects import ObjectKind, RepositoryPath
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid, NameInvalid
from registry.oci.index import Index, Owner
from registry.oci.manifest import parse_manifest
from registry.oci.name import parse_name
from registry.storage.errors import PathNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.database.manifests import ManifestRow
    from registry.database.references import ReferenceRow
    from registry.database.repositories import RepositoryRow
    from registry.images.migration_journal.documents import Baseline
    from registry.migration.adopt.baselines import Baselines
    from registry.migration.context import Context


@dataclass(frozen=True, slots=True)
class RollbackTarget:
    """One repository of Stowage, as the source registry is to have it."""

    wanted: TargetContent
    base: Baseline | None
    """What the source registry had when it was last adopted; None if it had no such repository."""
    version: int
    """The version of the row: as long as it is the same, all of this is."""
    unhashed: frozenset[Digest]
    """Digests whose source was not hashed."""
    ours: bytes | None
    """Our index if it has the key of the source registry's; None otherwise."""


class _Rows(NamedTuple):
    """What the database says, at one moment."""

    repository: RepositoryRow
    tags: dict[str, Digest]
    manifests: dict[str, ManifestRow]
    held: list[BlobRow]
    named: list[ReferenceRow]
    lost: list[LocationRow]


class RollbackTargets:
    """Makes the target of each repository. Any thread. Every method raises StorageError, DatabaseError."""

    def __init__(self, context: Context, bases: Baselines) -> None:
        self._context = context
        self._bases = bases
        self._prefix = self._usual_prefix()

    def names(self) -> list[str]:
        """Every repository of Stowage, by the database and, in case that was lost or is old, by the listing."""
        with self._context.registry.backends.database.snapshot() as connection:
            found = set(repositories.names(connection).get())
        for path in self._context.inventory.paths(ObjectKind.INDEX, ObjectKind.OUR_RECORD):
            if not any(path.startswith(f"{prefix}/") for prefix in self._context.layout.prefixes if prefix):
                with contextlib.suppress(NameInvalid):
                    found.add(parse_name(path))
        return sorted(found)

    def of(self, name: str) -> RollbackTarget | None:
        """The target of a repository; None if Stowage has none of that name, or has nothing in it.

        Raises ManifestInvalid if an index of the source registry, or ours, cannot be read.
        """
        rows = self._rows(name)
        if rows is None:
            return None
        base = self._bases.of(name)
        located = self._locate(name, base)
        manifests = self._manifests(rows, located)
        named = {digest for manifest in manifests.values() for digest in manifest.named_blobs}
        sizes = {
            Digest(row.digest): row.size
            for row in rows.held
            if row.digest not in rows.manifests and (row.state == blobs.PRESENT or row.digest in named)
        }
        if base is None and not rows.held:
            return None
        lost = [row.key for row in rows.lost if self._context.inventory.etag(row.key) == row.etag]
        document, ours = self._document(located, rows.repository)
        gone_tags, gone_manifests = self._gone(name, rows, base, document)
        sources, unhashed = self._sources(located, sizes, manifests, lost)
        wanted = TargetContent(
            located, rows.tags, manifests, sizes, sources, document,
            said={tag.name: tag.digest for tag in self._context.inventory.tags(name)},
            gone_tags=gone_tags,
            gone_manifests=gone_manifests,
            gone_blobs=sorted(self._blobs_of(located, gone_manifests) - named - {row.digest for row in rows.held}),
            lost=lost,
        )  # fmt: skip
        return RollbackTarget(wanted, base, rows.repository.version, unhashed, ours)

    def version(self, name: str) -> int | None:
        """The version of the row of a repository; None if there is none."""
        with self._context.registry.backends.database.autocommit() as connection:
            row = repositories.find(connection, name).get()
        return None if row is None else row.version

    def _rows(self, name: str) -> _Rows | None:
        registry = self._context.registry
        listed = self._context.inventory.etag(registry.backends.layout.index(name))
        if registry.reconciliation.current(name, listed) is None:
            return None
        with registry.backends.database.snapshot() as connection:
            current = repositories.find(connection, name).get()
            if current is None:
                return None
            tagged = tags.of_repository(connection, current.id).get()
            return _Rows(
                current,
                {tag: Digest(named.digest) for tag, named in tagged.items()},
                manifests.of_repository(connection, current.id).get(),
                memberships.of_repository(connection, current.id).get(),
                references.of_repository(connection, current.id).get(),
                migration_queries.lost(connection, current.id, store=registry.backends.driver.name).get(),
            )

    # ---- where

    def _usual_prefix(self) -> str:
        """The prefix of most repositories of the source registry: a new one gets it, too."""
        return ROOT if self._context.layout.bytes_kind is ObjectKind.DATA else self._context.inventory.usual_prefix()

    def _locate(self, name: str, base: Baseline | None) -> RepositoryPath:
        prefix = self._prefix if base is None else base.prefix
        if self._context.layout.bytes_kind is ObjectKind.DATA:
            return RepositoryPath(name, name, ROOT)
        return RepositoryPath(name, f"{prefix}/{name}" if prefix else name, prefix)

    # ---- what

    def _manifests(self, rows: _Rows, located: RepositoryPath) -> dict[Digest, WantedManifest]:
        """Each after those that it names."""
        named: dict[str, list[ReferenceRow]] = {digest: [] for digest in rows.manifests}
        for line in rows.named:
            named.get(line.manifest, []).append(line)
        found = {}
        for text in _children_first(named):
            row, digest = rows.manifests[text], Digest(text)
            found[digest] = WantedManifest(
                row.media_type,
                row.size,
                _of_kind(named[text], references.BLOB),
                _of_kind(named[text], references.OPTIONAL),
                _of_kind(named[text], references.MANIFEST, references.FORMER),
                self._taken_for(located, digest),
            )
        return found

    def _taken_for(self, located: RepositoryPath, digest: Digest) -> str:
        """The media type that the bytes of a manifest alone say; empty if the source registry need not tell by them."""
        layout, inventory = self._context.layout, self._context.inventory
        if layout.keeps_media_types or layout.has_manifest(located, digest, inventory):
            return ""
        body = self._body(digest)
        if body is None:
            return ""
        try:
            return parse_manifest(body, None).media_type
        except ManifestInvalid as error:
            return f"no manifest at all ({error.message})"

    def _body(self, digest: Digest) -> bytes | None:
        """The bytes of a manifest, from the database or an object that has them; None if no object does."""
        backends = self._context.registry.backends
        with backends.database.snapshot() as connection:
            kept = manifest_bodies.find(connection, digest).get()
            locations = blob_locations.of_digest(connection, digest, store=backends.driver.name).get()
        found = [] if kept is None else [kept]
        max_bytes = max(backends.policy.manifest_bytes, MAX_MANIFEST)
        for location in locations if kept is None else ():
            with contextlib.suppress(PathNotFound):
                found.append(backends.driver.read(location.key, max_bytes=max_bytes)[0])
        return next((body for body in found if Digest.of(body, digest.algorithm) == digest), None)

    def _sources(
        self,
        located: RepositoryPath,
        blobs: Mapping[Digest, int],
        manifests: Mapping[Digest, WantedManifest],
        lost: list[str],
    ) -> tuple[dict[Digest, Source], frozenset[Digest]]:
        """The best location of everything that the source registry lacks."""
        layout, backends = self._context.layout, self._context.registry.backends
        sizes = {**blobs, **{digest: manifest.size for digest, manifest in manifests.items()}}
        found, unhashed = {}, set()
        for digest, size in sizes.items():
            if layout.has_bytes(located, digest, size, self._context.inventory, lost):
                continue
            with backends.database.autocommit() as connection:
                locations = blob_locations.of_digest(connection, digest, store=backends.driver.name).get()
            if locations:
                found[digest] = Source(locations[0].key, locations[0].etag)
                if locations[0].verified_at is None:
                    unhashed.add(digest)
        return found, frozenset(unhashed)

    # ---- the index

    def _document(self, located: RepositoryPath, row: RepositoryRow) -> tuple[SourceIndex | None, bytes | None]:
        """The index of the source registry, and ours if that has its key. None, None if the layout has no indexes."""
        layout = self._context.layout
        if layout.bytes_kind is ObjectKind.DATA:
            return None, None
        key = f"{located.path}/index.json"
        present, etag = self._read(key)
        if not layout.overwrites_index(located):
            return SourceIndex(key, present, present, etag, row.folded_sequence), None
        if present and Index.parse(present).owner is Owner.FOREIGN:
            return SourceIndex(key, present, present, etag, row.folded_sequence), None
        saved = self._context.journal.saved_index(located.name) or b""
        return SourceIndex(key, saved, present, etag, row.folded_sequence), present or None

    def _read(self, key: str) -> tuple[bytes, str]:
        try:
            data, stat = self._context.driver.read(key, max_bytes=MAX_INDEX)
        except PathNotFound:
            return b"", ""
        return data, stat.etag

    def _gone(
        self, name: str, rows: _Rows, base: Baseline | None, document: SourceIndex | None
    ) -> tuple[list[str], list[Digest]]:
        """What the source registry had when it was adopted and Stowage has no more; nothing if it never was."""
        if base is None:
            return [], []
        tags = [tag for tag in base.tags if tag not in rows.tags]
        manifests = [digest for digest in base.manifests if digest not in rows.manifests]
        if not tags and not manifests:
            return [], []
        key = self._context.registry.backends.layout.index(name)
        data = document.present if document is not None and document.key == key else self._read(key)[0]
        if not data or Index.parse(data).migration != self._context.journal.id:
            return [], []
        return tags, manifests

    def _blobs_of(self, located: RepositoryPath, manifests: Iterable[Digest]) -> set[Digest]:
        """The blobs that removed manifests name. Their bytes are where they were: a rollback deletes no blob."""
        found: set[Digest] = set()
        for digest in manifests:
            key = self._context.layout.home(located, digest)
            try:
                body, _ = self._context.driver.read(key, max_bytes=MAX_MANIFEST)
                found.update(named.digest for named in parse_manifest(body, None).named_blobs())
            except (PathNotFound, ManifestInvalid):
                continue
        return found


def _of_kind(named: Iterable[ReferenceRow], *kinds: str) -> tuple[Digest, ...]:
    return tuple(Digest(line.digest) for line in named if line.kind in kinds)


def _children_first(named: Mapping[str, list[ReferenceRow]]) -> Iterable[str]:
    """Every manifest, each after those that it names; digests cannot form circles."""
    done: dict[str, None] = {}
    for first in sorted(named):
        waiting = [first]
        while waiting:
            digest = waiting[-1]
            before = [line.digest for line in named[digest] if line.digest in named and line.digest not in done]
            if before:
                waiting += before
            else:
                done[waiting.pop()] = None
    return done
