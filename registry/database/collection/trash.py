"""Rows of the trash: manifests that were deleted, with what they named and their repository had.

Nothing but the collection and a restore reads them: for every other query what is in the trash is not there (I4).

Tests: ``tests/images/trash/test_restoration.py``, ``tests/images/trash/test_trash_expiry.py``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.transaction import Later, Row, Transaction

UNPROVEN = "unproven"
"""The kind of what a manifest named when an earlier release deleted it: kept, and not given back to the repository."""


class TrashRow(NamedTuple):
    """A manifest that was deleted from a repository."""

    blob_id: int
    digest: str
    size: int
    """Bytes."""
    media_type: str
    sequence: int
    """The number of the change that deleted it."""
    batch: int
    """The number of the first change of the same request or run."""
    removed_at: float
    """Seconds since the epoch."""
    tags: tuple[str, ...]
    """The tags that it lost then."""


class TrashReference(NamedTuple):
    """Something that a deleted manifest named, and its repository had."""

    digest: str
    kind: str
    """BLOB, OPTIONAL, MANIFEST or FORMER, of ``registry.database.references``."""


_KEEP = Statement(
    "INSERT INTO trash_manifest (repository_id, blob_id, media_type, sequence, batch, removed_at, tags)"
    " SELECT m.repository_id, m.blob_id, m.media_type, :sequence, :batch, :now, :tags FROM manifest m"
    " WHERE m.repository_id = :repository AND m.blob_id = :blob"
    " ON CONFLICT (repository_id, blob_id) DO UPDATE SET media_type = excluded.media_type,"
    " sequence = excluded.sequence, batch = excluded.batch, removed_at = excluded.removed_at, tags = excluded.tags"
)
_ADD = Statement(
    "INSERT INTO trash_manifest (repository_id, blob_id, media_type, sequence, batch, removed_at, tags)"
    " VALUES (:repository, :blob, :media_type, :sequence, :batch, :now, :tags)"
    " ON CONFLICT (repository_id, blob_id) DO NOTHING"
)
_FORGET_REFERENCES = Statement("DELETE FROM trash_reference WHERE repository_id = :repository AND manifest_id = :blob")
_IS_HELD = (
    "EXISTS (SELECT 1 FROM blob b JOIN membership m ON m.blob_id = b.id"
    " WHERE b.digest = r.digest AND m.repository_id = r.repository_id)"
)
_KEEP_REFERENCES = Statement(
    "INSERT INTO trash_reference (repository_id, manifest_id, digest, kind)"  # noqa: S608 - constant
    " SELECT r.repository_id, r.manifest_id, r.digest, r.kind FROM reference r"
    f" WHERE r.repository_id = :repository AND r.manifest_id = :blob AND {_IS_HELD}"
)
_HELD = Statement(
    "SELECT r.digest FROM reference r"  # noqa: S608 - constant
    f" WHERE r.repository_id = :repository AND r.manifest_id = :blob AND {_IS_HELD} ORDER BY r.digest"
)
_ADD_REFERENCE = Statement(
    "INSERT INTO trash_reference (repository_id, manifest_id, digest, kind)"
    " VALUES (:repository, :blob, :digest, :kind) ON CONFLICT (repository_id, manifest_id, digest) DO NOTHING"
)
_MAKE_OWN = Statement(
    "UPDATE membership SET found = NULL WHERE repository_id = :repository AND blob_id = :blob AND found IS NOT NULL"
)
_MAKE_NAMED = Statement(
    "UPDATE membership SET found = NULL WHERE repository_id = :repository AND found IS NOT NULL AND blob_id IN"
    " (SELECT b.id FROM trash_reference x JOIN blob b ON b.digest = x.digest"
    " WHERE x.repository_id = :repository AND x.manifest_id = :blob)"
)
"""A client has deleted what named them: see ``memberships.MADE``."""
_LACKED = Statement(
    "SELECT r.digest FROM reference r"  # noqa: S608 - constant
    f" WHERE r.repository_id = :repository AND r.manifest_id = :blob AND NOT {_IS_HELD} ORDER BY r.digest"
)
_COLUMNS = "t.blob_id, b.digest, b.size, t.media_type, t.sequence, t.batch, t.removed_at, t.tags"
_FROM = "FROM trash_manifest t JOIN blob b ON b.id = t.blob_id WHERE t.repository_id = :repository"
_FIND = Statement(f"SELECT {_COLUMNS} {_FROM} AND b.digest = :digest AND t.removed_at > :after")
_BATCH = Statement(
    f"SELECT {_COLUMNS} {_FROM} AND t.sequence >= :batch AND t.batch = :batch AND t.removed_at > :after"
    " ORDER BY t.sequence DESC"
)
"""The number of a batch is that of its first change, so that what was deleted before is not looked at."""
_BEGUN = Statement(
    "SELECT m.deletion FROM blob b JOIN manifest m ON m.blob_id = b.id"
    " WHERE b.digest = :digest AND m.repository_id = :repository"
)
_BEGIN = Statement(
    "UPDATE manifest SET deletion = :batch WHERE repository_id = :repository"
    " AND blob_id = (SELECT b.id FROM blob b WHERE b.digest = :digest) AND deletion IS NULL"
)
_PAGE = Statement(
    f"SELECT {_COLUMNS} {_FROM} AND t.removed_at > :after AND t.sequence < :before"
    " ORDER BY t.sequence DESC LIMIT :count"
)
_REFERENCES = Statement(
    "SELECT digest, kind FROM trash_reference WHERE repository_id = :repository AND manifest_id = :blob ORDER BY digest"
)
_KEEPS = Statement(
    "SELECT (SELECT max(t.removed_at) FROM trash_manifest t JOIN blob b ON b.id = t.blob_id"
    " WHERE t.repository_id = :repository AND b.digest = :digest),"
    " (SELECT max(t.removed_at) FROM trash_reference x JOIN trash_manifest t"
    " ON t.repository_id = x.repository_id AND t.blob_id = x.manifest_id"
    " WHERE x.repository_id = :repository AND x.digest = :digest)"
)
_EXPIRED = Statement(
    "SELECT t.repository_id, r.name, t.blob_id, b.digest, t.removed_at FROM trash_manifest t"
    " JOIN repository r ON r.id = t.repository_id JOIN blob b ON b.id = t.blob_id"
    " WHERE t.removed_at <= :before AND t.removed_at >= :removed_at"
    " AND (t.removed_at, t.repository_id, t.blob_id) > (:removed_at, :repository, :blob)"
    " ORDER BY t.removed_at, t.repository_id, t.blob_id LIMIT :count"
)
_REMOVE = Statement(
    "DELETE FROM trash_manifest WHERE repository_id = :repository AND blob_id = :blob AND removed_at <= :before"
)


class ExpiredRow(NamedTuple):
    """A manifest that can be restored no longer."""

    repository_id: int
    repository: str
    """Its name."""
    blob_id: int
    digest: str
    removed_at: float
    """Seconds since the epoch."""

    @property
    def place(self) -> tuple[float, int, int]:
        """Where it stands in the order of expiry."""
        return self.removed_at, self.repository_id, self.blob_id


FIRST = (0.0, -1, -1)
"""Before every manifest of the trash, in the order of expiry."""


def keep(
    connection: Transaction,
    repository_id: int,
    blob_id: int,
    *,
    sequence: int,
    batch: int,
    now: float,
    tags: Iterable[str],
) -> None:
    """Put a manifest of a repository into the trash, before its rows are removed in the same transaction."""
    values = {"repository": repository_id, "blob": blob_id}
    text = json.dumps(sorted(tags))
    connection.execute(_FORGET_REFERENCES, values)
    connection.execute(_KEEP, {**values, "sequence": sequence, "batch": batch, "now": now, "tags": text})
    connection.execute(_KEEP_REFERENCES, values)
    connection.execute(_MAKE_OWN, values)
    connection.execute(_MAKE_NAMED, values)


def add(connection: Transaction, repository_id: int, row: TrashRow, references: Iterable[TrashReference]) -> None:
    """Make the rows of a manifest that a record says was deleted; rows that are there stay as they are."""
    values = {"repository": repository_id, "blob": row.blob_id}
    own = {"media_type": row.media_type, "sequence": row.sequence, "batch": row.batch, "now": row.removed_at}
    connection.execute(_ADD, {**values, **own, "tags": json.dumps(sorted(row.tags))})
    connection.execute_many(_ADD_REFERENCE, [{**values, **reference._asdict()} for reference in references])
    connection.execute(_MAKE_OWN, values)
    connection.execute(_MAKE_NAMED, values)


def lacked(connection: Transaction, repository_id: int, blob_id: int) -> Later[list[str]]:
    """What a manifest of a repository names and the repository does not have."""
    return connection.execute(_LACKED, {"repository": repository_id, "blob": blob_id}).all_as(str)


def held(connection: Transaction, repository_id: int, blob_id: int) -> Later[list[str]]:
    """What a manifest of a repository names and the repository has: what the trash would note of it."""
    return connection.execute(_HELD, {"repository": repository_id, "blob": blob_id}).all_as(str)


def find(connection: Transaction, repository_id: int, digest: str, *, after: float) -> Later[TrashRow | None]:
    """The manifest with this digest, if it was deleted after that moment."""
    values = {"repository": repository_id, "digest": digest, "after": after}
    return connection.execute(_FIND, values).later(lambda rows: _made(row) if (row := rows.first()) else None)


def of_batch(connection: Transaction, repository_id: int, batch: int, *, after: float) -> Later[list[TrashRow]]:
    """What one request or run deleted, the last first: an index comes after what it lists."""
    return _all(connection, _BATCH, {"repository": repository_id, "batch": batch, "after": after})


def begun(connection: Transaction, repository_id: int, digest: str) -> Later[int | None]:
    """The batch of what went into the trash because of a manifest that is still there; None where nothing did."""
    values = {"repository": repository_id, "digest": digest}
    return connection.execute(_BEGUN, values).later(lambda rows: row[0] if (row := rows.first()) else None)


def begin(connection: Transaction, repository_id: int, digest: str, *, batch: int) -> None:
    """Note that something went into the trash because a manifest is being deleted, which goes last.

    The note ends with the row of the manifest: where a deletion was killed between, the next goes on with its batch.
    """
    connection.execute(_BEGIN, {"repository": repository_id, "digest": digest, "batch": batch})


def page(
    connection: Transaction, repository_id: int, *, after: float, before: int, count: int
) -> Later[list[TrashRow]]:
    """At most ``count`` manifests deleted after that moment, by changes below ``before``, the last first."""
    return _all(connection, _PAGE, {"repository": repository_id, "after": after, "before": before, "count": count})


def references(connection: Transaction, repository_id: int, blob_id: int) -> Later[list[TrashReference]]:
    """What a manifest of the trash named, as far as its repository had it."""
    return connection.execute(_REFERENCES, {"repository": repository_id, "blob": blob_id}).all_as(TrashReference)


def kept_since(connection: Transaction, repository_id: int, digest: str) -> Later[float]:
    """When the last manifest of the trash was deleted that is this digest or named it; 0.0 if there is none."""
    values = {"repository": repository_id, "digest": digest}
    return connection.execute(_KEEPS, values).later(lambda rows: max(0.0, *(at or 0.0 for at in rows.one())))


def expired(
    connection: Transaction, *, before: float, count: int, after: tuple[float, int, int] = FIRST
) -> Later[list[ExpiredRow]]:
    """At most ``count`` manifests that were deleted at that moment or earlier, the oldest first, after that place."""
    values = {"before": before, "count": count, "removed_at": after[0], "repository": after[1], "blob": after[2]}
    return connection.execute(_EXPIRED, values).all_as(ExpiredRow)


def remove(connection: Transaction, repository_id: int, blob_id: int, *, before: float) -> bool:
    """Take a manifest out of the trash, with what it named. False if it was deleted again after that moment."""
    values = {"repository": repository_id, "blob": blob_id}
    if not connection.execute(_REMOVE, {**values, "before": before}).rowcount:
        return False
    connection.execute(_FORGET_REFERENCES, values)
    return True


def _all(connection: Transaction, statement: Statement, values: dict[str, object]) -> Later[list[TrashRow]]:
    return connection.execute(statement, values).later(lambda rows: [_made(row) for row in rows.all()])


def _made(row: Row) -> TrashRow:
    blob_id, digest, size, media_type, sequence, batch, removed_at, tags = row
    return TrashRow(blob_id, digest, size, media_type, sequence, batch, removed_at, tuple(json.loads(tags)))
