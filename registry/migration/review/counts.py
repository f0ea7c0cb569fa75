"""Counts: what there is to migrate, and what the phases will have to do.

Tests: ``tests/migration/review/test_review.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.migration.source.checks import EMPTY
from registry.migration.source.inventory import SERVABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.source.inventory import Inventory
    from registry.migration.source.layout import SourceLayout

_USED = "EXISTS (SELECT 1 FROM wanted w WHERE w.digest = o.digest)"
_GONE = "kind IN ('layer-link', 'revision-link', 'tag-link', 'old-tag-link')"


@dataclass(slots=True)
class Counts:
    """Counts what Stowage would serve. Content with a problem is left out unless it is served anyway."""

    repositories: int = 0
    tags: int = 0
    manifests: int = 0
    """Distinct."""
    manifest_bytes: int = 0
    blobs: int = 0
    """Distinct, manifests aside."""
    blob_bytes: int = 0
    duplicates: int = 0
    """Objects with bytes that another object has too."""
    duplicate_bytes: int = 0
    """Their bytes."""
    stubs: int = 0
    """Objects of 0 bytes that stand for the bytes of another object."""
    objects: int = 0
    """All objects of the source registry."""
    object_bytes: int = 0

    @property
    def bytes(self) -> int:
        """The bytes of manifests and blobs, each once."""
        return self.manifest_bytes + self.blob_bytes


@dataclass(frozen=True, slots=True)
class Leftover:
    """Objects that a phase leaves where they are."""

    reason: str
    """A word for each reason, see the guide."""
    objects: int
    bytes: int
    example: str
    """One of the keys."""


@dataclass(frozen=True, slots=True)
class RepositoryLine:
    """A repository, in a plan."""

    repository: str
    fingerprint: str
    """See Inventory.fingerprint."""
    index: str
    """The etag of its index; empty if the layout has none."""
    tags: int
    manifests: int
    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ShardLine:
    """All objects with bytes whose digests begin alike, in a plan."""

    shard: str
    """``sha256-ab``."""
    fingerprint: str


@dataclass(slots=True)
class Work:
    """What the next phases will have to do, beyond the counts."""

    shards: int = 0
    overwritten: int = 0
    """Indexes of the source registry whose key is ours too."""
    indexes: int = 0
    """Indexes, or links of tags, that a pass reads."""
    uncopied: int = 0
    """Manifests and blobs that have no object of ours yet."""
    uncopied_manifests: int = 0
    uncopied_bytes: int = 0
    copied_in_parts: list[int] = field(default_factory=list)
    """The bytes of each of them that is too large to be copied by one request."""
    deleted: int = 0
    """Objects that finalize deletes."""
    deleted_bytes: int = 0


class Counter:
    """Counts what an inventory holds, after its checks."""

    def __init__(self, inventory: Inventory, layout: SourceLayout) -> None:
        self._inventory = inventory
        self._layout = layout

    def counts(self) -> Counts:
        """See Counts."""
        value, total = self._inventory.value, self._inventory.total
        manifests = total("manifest WHERE problem = ''")
        blobs = total(
            "(SELECT min(size) AS size FROM location l"
            " WHERE NOT EXISTS (SELECT 1 FROM manifest f WHERE f.digest = l.digest) GROUP BY digest)"
        )
        duplicates = self._inventory.rows(
            "SELECT coalesce(sum(n - 1), 0), coalesce(sum((n - 1) * size), 0)"
            " FROM (SELECT count(*) AS n, min(size) AS size FROM location GROUP BY digest)"
        )[0]
        stubs = value(
            "SELECT count(*) FROM object o WHERE kind = ? AND size = 0 AND digest NOT IN (?, ?) AND ?"
            f" AND {_USED}",
            self._layout.bytes_kind, *EMPTY, self._layout.has_stubs,
        )  # fmt: skip
        objects = total(
            "object o WHERE kind NOT IN ('our-blob', 'our-record', 'unknown')"
            " AND NOT EXISTS (SELECT 1 FROM ours WHERE ours.path = o.repository AND o.kind IN ('index', 'marker'))"
        )
        return Counts(
            repositories=value("SELECT count(*) FROM repository"),
            tags=value(f"SELECT count(*) FROM tag t WHERE {SERVABLE.format('t')}"),
            manifests=manifests[0],
            manifest_bytes=manifests[1],
            blobs=blobs[0],
            blob_bytes=blobs[1],
            duplicates=duplicates[0],
            duplicate_bytes=duplicates[1],
            stubs=stubs,
            objects=objects[0],
            object_bytes=objects[1],
        )

    def stays(self) -> list[Leftover]:
        """What is not migrated and not deleted: ``unreferenced``, ``uploads``, ``left``, ``not-taken``, ``unknown``."""
        conditions = {
            "unreferenced": f"kind = '{self._layout.bytes_kind}' AND NOT {_USED}",
            "uploads": "kind = 'upload'",
            "left": "kind = 'left'",
            "not-taken": "kind IN ('index', 'marker', 'layer-link', 'revision-link', 'tag-link', 'old-tag-link')"
            " AND repository NOT IN (SELECT path FROM repository UNION SELECT path FROM ours)",
            "unknown": "kind = 'unknown'",
        }
        found = []
        for reason, condition in conditions.items():
            count, size, example = self._inventory.rows(
                f"SELECT count(*), sum(size), min(key) FROM object o WHERE {condition}"
            )[0]
            if count:
                found.append(Leftover(reason, count, size, example))
        return found

    def work(self, copy_bytes: int) -> Work:
        """See Work. ``copy_bytes`` is the most that one request copies; 0 for any size."""
        rows = self._inventory.rows
        self._inventory.do(
            f"INSERT OR IGNORE INTO uncopied SELECT digest, min(size), {SERVABLE.format('l')} FROM location l"
            " WHERE NOT EXISTS (SELECT 1 FROM object o WHERE o.kind = 'our-blob' AND o.digest = l.digest"
            " AND o.size = l.size) GROUP BY digest"
        )
        uncopied = rows("SELECT count(*), coalesce(sum(manifest), 0), coalesce(sum(size), 0) FROM uncopied")[0]
        large = rows("SELECT size FROM uncopied WHERE ? > 0 AND size > ?", copy_bytes, copy_bytes)
        deleted = self._inventory.total(
            "object o WHERE (kind = ?"
            f" AND EXISTS (SELECT 1 FROM location l WHERE l.digest = o.digest)) OR ({_GONE}"
            " AND EXISTS (SELECT 1 FROM repository p WHERE p.path = o.repository)) OR (kind IN ('index', 'marker')"
            " AND EXISTS (SELECT 1 FROM repository p WHERE p.path = o.repository AND p.prefix <> ''))",
            self._layout.bytes_kind,
        )
        return Work(
            shards=len(self._inventory.shards(self._layout.bytes_kind)),
            overwritten=self._inventory.value("SELECT count(*) FROM repository WHERE prefix = '' AND index_key <> ''"),
            indexes=self._inventory.value(
                "SELECT count(*) FROM object o WHERE kind IN ('index', 'tag-link')"
                " AND EXISTS (SELECT 1 FROM repository p WHERE p.path = o.repository)"
            ),
            uncopied=uncopied[0],
            uncopied_manifests=uncopied[1],
            uncopied_bytes=uncopied[2],
            copied_in_parts=[size for (size,) in large],
            deleted=deleted[0],
            deleted_bytes=deleted[1],
        )

    def repositories(self) -> Iterator[RepositoryLine]:
        """Each repository of the source registry, by name."""
        blob = (
            "SELECT w.digest FROM wanted w WHERE w.repository = ?"
            " AND NOT EXISTS (SELECT 1 FROM manifest f WHERE f.digest = w.digest)"
        )
        for found in self._inventory.repositories():
            tags = self._inventory.value(
                f"SELECT count(*) FROM tag t WHERE repository = ? AND {SERVABLE.format('t')}",
                found.name,
            )
            manifests, manifest_bytes = self._inventory.rows(
                "SELECT count(*), coalesce(sum(f.size), 0) FROM member m JOIN manifest f ON f.digest = m.digest"
                " AND f.problem = '' WHERE m.repository = ?",
                found.name,
            )[0]
            blobs, blob_bytes = self._inventory.total(
                f"(SELECT min(l.size) AS size FROM location l WHERE l.digest IN ({blob}) GROUP BY l.digest)",
                found.name,
            )
            yield RepositoryLine(
                found.name,
                self._inventory.fingerprint(found.path),
                found.index_etag,
                tags,
                manifests,
                blobs,
                manifest_bytes + blob_bytes,
            )

    def shards(self) -> Iterator[ShardLine]:
        """Each shard that has an object with bytes."""
        kind = self._layout.bytes_kind
        for shard in self._inventory.shards(kind):
            yield ShardLine(shard, self._inventory.shard_fingerprint(shard, kind))
