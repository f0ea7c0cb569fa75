"""Finalization plan: which source objects are deleted and which stay, by a listing and the rows of copies.

Tests: ``tests/migration/finalize/test_finalize.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Final

from registry.database.blob_locations import CURRENT
from registry.images.blob_locations import Location
from registry.migration.consolidate.lost_blobs import placed
from registry.migration.review.counts import Leftover
from registry.migration.source.objects import ObjectKind
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.migration.context import Context
    from registry.migration.source.objects import RepositoryPath

LINKS: Final = 0
"""The first step deletes what repositories have beside blobs: whatever names a blob goes before the blob."""
BLOBS: Final = 1

_TABLES: Final = {
    "going": "step INTEGER, key TEXT, size INTEGER NOT NULL, PRIMARY KEY (step, key)",
    "copied": "digest TEXT PRIMARY KEY, size INTEGER NOT NULL, verified_at REAL NOT NULL",
    "taken": "path TEXT PRIMARY KEY, name TEXT NOT NULL, prefix TEXT NOT NULL",
    "kept": "digest TEXT PRIMARY KEY",
    "absent": "digest TEXT PRIMARY KEY, size INTEGER NOT NULL, key TEXT NOT NULL, id INTEGER NOT NULL,"
    " etag TEXT NOT NULL",
}
_LISTED: Final = "SELECT 1 FROM object o WHERE o.kind = 'our-blob' AND o.digest = {0}.digest AND o.size = {0}.size"
_BLOBS_GO: Final = (
    "INSERT OR IGNORE INTO going SELECT ?1, o.key, o.size FROM object o JOIN copied c ON c.digest = o.digest"
    " WHERE o.kind = ?2 AND (o.size = c.size OR (o.size = 0 AND ?3))"
    " AND (o.repository = '' OR o.repository IN (SELECT path FROM taken))"
    " AND NOT EXISTS (SELECT 1 FROM kept k WHERE k.digest = o.digest)"
)
_INCOMPLETE: Final = (
    "SELECT EXISTS (SELECT 1 FROM member m LEFT JOIN manifest f ON f.digest = m.digest"
    " WHERE m.repository = ?1 AND coalesce(f.problem, 'unread') <> '')"
    " OR EXISTS (SELECT 1 FROM wanted w WHERE w.repository = ?1"
    " AND NOT EXISTS (SELECT 1 FROM copied c WHERE c.digest = w.digest))"
)
_NOT_BEFORE: Final = (
    "SELECT max(c.verified_at) FROM copied c"
    " WHERE EXISTS (SELECT 1 FROM object o JOIN going g ON g.step = ?1 AND g.key = o.key WHERE o.digest = c.digest)"
)
_STAYS: Final = (
    "SELECT CASE WHEN kind IN ('upload', 'left', 'unknown') THEN kind"
    " WHEN repository <> '' AND repository NOT IN (SELECT path FROM taken) THEN 'not-taken'"
    " WHEN kind = ?1 THEN 'not-copied' ELSE 'incomplete' END AS reason, count(*), sum(size), min(key)"
    " FROM object o WHERE kind NOT IN ('our-blob', 'our-record')"
    " AND NOT EXISTS (SELECT 1 FROM going g WHERE g.step IN (?2, ?3) AND g.key = o.key)"
    " AND NOT (kind IN ('index', 'marker') AND (?4 OR repository IN (SELECT path FROM ours)"
    " OR repository IN (SELECT path FROM taken WHERE prefix = '')))"
    " GROUP BY 1 ORDER BY 1"
)


@dataclass(frozen=True, slots=True)
class Finalization:
    """What goes, and what stays."""

    objects: int
    bytes: int
    requests: int
    """Requests that delete them."""
    not_before: float | None
    """Seconds since the epoch until which clients may hold URLs of source objects; None if none can."""
    stays: list[Leftover] = field(default_factory=list)
    """``not-copied`` (nothing that Stowage has needs it, or a problem keeps it), ``incomplete`` (in a repository that
    names such a blob), ``not-taken`` (in a repository that was not adopted), ``upload``, ``left``, ``unknown``.
    """

    def waits_until(self, now: float) -> str | None:
        """When source objects may be deleted; None if they may now."""
        if self.not_before is None or self.not_before <= now:
            return None
        return datetime.fromtimestamp(ceil(self.not_before), UTC).isoformat(timespec="seconds")


class FinalizePlanner:
    """Decides key by key; what goes is in the table ``going`` of the inventory. Writes nothing to the bucket."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._inventory = context.inventory
        self._layout = context.layout
        self._backends = context.registry.backends
        # The problems of the last pass: content that is deleted already would be missing now.
        self._wrong = {problem.repository for problem in context.journal.problems()}

    def plan(self) -> Finalization:
        """See Finalization. Raises StorageError, DatabaseError."""
        for table, columns in _TABLES.items():
            self._inventory.do(f"DROP TABLE IF EXISTS {table}")
            self._inventory.do(f"CREATE TABLE {table} ({columns}) WITHOUT ROWID")
        self._note_copies()
        taken = self._note_taken()
        self._note_kept()
        for located in taken:
            if self._is_complete(located):
                self._inventory.put(
                    "going", [(LINKS, key, 0) for key in self._layout.removable_keys(located, self._inventory)]
                )
        self._inventory.do("UPDATE going SET size = (SELECT o.size FROM object o WHERE o.key = going.key)")
        self._inventory.do(_BLOBS_GO, BLOBS, self._layout.bytes_kind, self._layout.has_stubs)
        objects, size = self._inventory.total("going")
        stays = self._inventory.rows(
            _STAYS, self._layout.bytes_kind, LINKS, BLOBS, self._layout.bytes_kind is not ObjectKind.BLOB
        )
        batch = self._backends.driver.capabilities.delete_batch
        return Finalization(objects, size, ceil(objects / batch), self._not_before(), [Leftover(*row) for row in stays])

    def links(self) -> Iterator[tuple[str, str]]:
        """(key, empty) of what goes beside blobs: an index after its marker, tags before revisions before layers.

        What a kill leaves of a repository is then still known as a repository without problems.
        """
        statement = "SELECT key FROM going WHERE step = ? ORDER BY key DESC"
        return ((key, "") for (key,) in self._inventory.each(statement, LINKS))

    def blobs(self) -> Iterator[tuple[str, str]]:
        """(key, digest) of the objects of blobs that go, sorted."""
        statement = "SELECT g.key, o.digest FROM going g JOIN object o ON o.key = g.key WHERE g.step = ? ORDER BY g.key"
        return ((key, digest) for key, digest in self._inventory.each(statement, BLOBS))

    def absent(self) -> list[tuple[Digest, int, Location]]:
        """Copies that rows have and the listing does not show: the source object may be the only one left."""
        rows = self._inventory.rows("SELECT digest, size, key, id, etag FROM absent ORDER BY digest")
        return [
            (Digest(digest), size, Location(key, row_id, etag, is_verified=True))
            for digest, size, key, row_id, etag in rows
        ]

    def _note_copies(self) -> None:
        """Note the blobs that have a hashed object of ours by their row and by the listing."""
        layout = self._backends.layout
        for shard in self._inventory.shards(self._layout.bytes_kind, ObjectKind.OUR_BLOB):
            copies = [
                (digest, at)
                for digest, locations in placed(self._context.registry, shard).items()
                for at in locations
                if at.state == CURRENT
                and at.migration is None
                and at.verified_at is not None
                and at.key == layout.blob("", Digest(digest))
            ]
            self._inventory.put("copied", [(digest, at.size, at.verified_at) for digest, at in copies])
            self._inventory.put("absent", [(digest, at.size, at.key, at.id, at.etag) for digest, at in copies])
        self._inventory.do(f"DELETE FROM absent WHERE EXISTS ({_LISTED.format('absent')})")
        self._inventory.do(f"DELETE FROM copied WHERE NOT EXISTS ({_LISTED.format('copied')})")

    def _note_taken(self) -> list[RepositoryPath]:
        """Note the repositories that Stowage has; returns them."""
        journal = self._context.journal
        found = self._layout.repositories(self._inventory)
        bases = self._context.workers.each(lambda located: journal.locations.base_in(journal.id, located.name), found)
        taken = [
            located
            for located, base in zip(found, bases, strict=True)
            if base is not None and base.prefix == located.prefix
        ]
        self._inventory.put("taken", [(located.path, located.name, located.prefix) for located in taken])
        return taken

    def _note_kept(self) -> None:
        """Note the digests that repositories which Stowage does not have may need, wherever their bytes are."""
        kinds = (*self._layout.member_kinds, self._layout.bytes_kind)
        marks = ", ".join("?" * len(kinds))
        self._inventory.do(
            f"INSERT OR IGNORE INTO kept SELECT digest FROM object WHERE kind IN ({marks}) AND repository <> ''"
            " AND repository NOT IN (SELECT path FROM taken) AND repository NOT IN (SELECT path FROM ours)",
            *kinds,
        )
        self._inventory.do(
            "INSERT OR IGNORE INTO kept SELECT digest FROM wanted WHERE repository NOT IN (SELECT name FROM taken)"
        )

    def _is_complete(self, located: RepositoryPath) -> bool:
        """Whether everything that a repository names is copied, and it has no problem."""
        if self._inventory.value(_INCOMPLETE, located.name):
            return False
        row = self._inventory.repository(located.path)
        if row is None or (row.index_key and not row.index_etag):
            return False
        return located.name not in self._wrong

    def _not_before(self) -> float | None:
        storage = self._context.settings.storage
        if storage.redirect == "off":
            return None
        youngest = self._inventory.value(_NOT_BEFORE, BLOBS)
        return None if youngest is None else float(youngest) + storage.redirect_expiry
