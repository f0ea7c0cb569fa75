"""Rows of the trash that goes before its time: the oldest of some repositories, and what nothing but it needed."""

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


_OLDEST = Statement(
    "SELECT t.repository_id, h.name, t.blob_id, b.digest, t.removed_at"  # noqa: S608 - constants
    " FROM (SELECT c.id, c.name, COALESCE((SELECT l.sequence FROM trash_manifest l WHERE l.repository_id = c.id"
    " ORDER BY l.sequence LIMIT 1 OFFSET :count), :ever) AS after"
    " FROM (SELECT r.id, r.name, (SELECT f.removed_at FROM trash_manifest f WHERE f.repository_id = r.id"
    f" ORDER BY f.sequence LIMIT 1) AS since FROM repository r WHERE {IN_GROUP}) c"
    " WHERE c.since IS NOT NULL ORDER BY c.since, c.id LIMIT :count) h"
    " JOIN trash_manifest t ON t.repository_id = h.id AND t.sequence < h.after"
    " JOIN blob b ON b.id = t.blob_id ORDER BY t.removed_at, t.sequence LIMIT :count",
    sqlite=FUNCTION,
)
"""The first of each repository say of which the page can be; of each of these no more is read than fits the page."""
_EVER = (1 << 63) - 1
"""A number after that of every change."""
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
    """At most ``count`` manifests in the trash of the repositories of a group, those first that were deleted first.

    It looks at each repository of the group, and at ``count`` manifests of as many of these, however large the trash.
    """
    values = {**group._asdict(), "count": count, "ever": _EVER}
    return connection.execute(_OLDEST, values).all_as(ExpiredRow)


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
