"""Rows of the trash that goes before its time: the oldest of some repositories, and what nothing but it needed.

Tests: ``tests/images/trash/test_trash_emptying.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.blobs import LEASE_LEFT
from registry.database.collection.trash import ExpiredRow
from registry.database.memberships import MADE
from registry.database.quotas.groups import FUNCTION, IN_GROUP, TRASHED
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Transaction
    from registry.oci.quotas import Group


class MemberRow(NamedTuple):
    """A member that no manifest of its repository and nothing in its trash needs."""

    blob_id: int
    digest: str
    size: int
    """Bytes."""
    is_leased: bool
    """A push may be about to name it."""


_COLUMNS = "t.repository_id, r.name, t.blob_id, b.digest, t.removed_at"
_OLDEST = Statement(
    f"SELECT {_COLUMNS} FROM trash_manifest t JOIN repository r ON r.id = t.repository_id"  # noqa: S608 - constants
    f" JOIN blob b ON b.id = t.blob_id WHERE {IN_GROUP} ORDER BY t.removed_at, t.sequence LIMIT :count",
    sqlite=FUNCTION,
)
_OLDEST_OF = Statement(
    f"SELECT {_COLUMNS} FROM trash_manifest t JOIN repository r ON r.id = t.repository_id"  # noqa: S608 - constants
    " JOIN blob b ON b.id = t.blob_id WHERE t.repository_id = :repository"
    " ORDER BY t.removed_at, t.sequence LIMIT :count"
)
_IS_NAMED = (
    "((SELECT 1 FROM manifest n WHERE n.repository_id = m.repository_id AND n.blob_id = b.id) IS NOT NULL"
    " OR (SELECT 1 FROM reference n WHERE n.repository_id = m.repository_id AND n.digest = b.digest LIMIT 1)"
    " IS NOT NULL)"
)
"""No EXISTS, for which PostgreSQL may read a whole table once."""
_EVICTABLE = Statement(
    f"SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM ({TRASHED}) z JOIN blob b ON b.id = z.id"  # noqa: S608 - constants
    f" WHERE {LEASE_LEFT} <= 0 AND NOT EXISTS (SELECT 1 FROM membership m"
    f" JOIN repository r ON r.id = m.repository_id WHERE m.blob_id = b.id AND {IN_GROUP} AND {_IS_NAMED})",
    sqlite=FUNCTION,
)
_UNNAMED = (
    f"SELECT b.id, b.digest, b.size, CASE WHEN {LEASE_LEFT} > 0 THEN 1 ELSE 0 END"  # noqa: S608 - constants
    " FROM blob b JOIN membership m ON m.repository_id = :repository AND m.blob_id = b.id"
    f" WHERE b.digest IN :digests AND {MADE} AND NOT {_IS_NAMED}"
)
_UNNAMED_AMONG = Statement(f"{_UNNAMED} ORDER BY b.digest", expanding="digests")
_UNNEEDED_AMONG = Statement(
    f"{_UNNAMED} AND NOT EXISTS"  # noqa: S608 - constants
    " (SELECT 1 FROM trash_manifest t WHERE t.repository_id = :repository AND t.blob_id = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM trash_reference x WHERE x.repository_id = :repository AND x.digest = b.digest)"
    " ORDER BY b.digest",
    expanding="digests",
    locking="b",
)
_LONG_UPLOAD = Statement(
    "SELECT 1 FROM upload_session s WHERE s.repository = :name AND s.updated_at >= :since AND s.started_at < :before"
    " UNION ALL SELECT 1 FROM repository r WHERE r.name = :name AND r.uploaded_at >= :since LIMIT 1"
)


def oldest(connection: Transaction, group: Group, *, count: int) -> Later[list[ExpiredRow]]:
    """At most ``count`` manifests in the trash of the repositories of a group, those first that were deleted first."""
    return connection.execute(_OLDEST, {**group._asdict(), "count": count}).all_as(ExpiredRow)


def oldest_of(connection: Transaction, repository_id: int, *, count: int) -> Later[list[ExpiredRow]]:
    """As ``oldest``, of one repository."""
    return connection.execute(_OLDEST_OF, {"repository": repository_id, "count": count}).all_as(ExpiredRow)


def evictable(connection: Transaction, group: Group) -> int:
    """The bytes that a group would have less without its trash, about; what is leased is not in them."""
    return connection.execute(_EVICTABLE, group._asdict()).one_as(int).get()


def unneeded_among(connection: Transaction, repository_id: int, digests: Sequence[str]) -> Later[list[MemberRow]]:
    """The members among ``digests``, at most BATCH, that nothing of the repository needs; their blobs are locked.

    The caller has locked the repository, and made sure that its references are complete.
    """
    rows = connection.execute(_UNNEEDED_AMONG, {"repository": repository_id, "digests": digests})
    return rows.all_as(lambda blob_id, digest, size, is_leased: MemberRow(blob_id, digest, size, bool(is_leased)))


def unnamed_among(connection: Transaction, repository_id: int, digests: Sequence[str]) -> Later[list[MemberRow]]:
    """As ``unneeded_among``, also those that its trash needs; nothing is locked."""
    rows = connection.execute(_UNNAMED_AMONG, {"repository": repository_id, "digests": digests})
    return rows.all_as(lambda blob_id, digest, size, is_leased: MemberRow(blob_id, digest, size, bool(is_leased)))


def any_long_upload(connection: Transaction, name: str, *, since: float, before: float) -> Later[bool]:
    """Whether a session that a client goes on with since then began ``before``, or one that took long ended since then.

    What its client was told is there may have no lease any more.
    """
    values = {"name": name, "since": since, "before": before}
    return connection.execute(_LONG_UPLOAD, values).later(lambda rows: rows.first() is not None)
