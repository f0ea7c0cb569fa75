"""Rows of what goes with a manifest that is out of use: the manifests that only it lists.

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.blobs import LEASE_LEFT
from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction


class ClosureRow(NamedTuple):
    """A manifest of a repository, with what keeps it."""

    blob_id: int
    digest: str
    subject: str | None
    """The digest of its subject, if the repository has that."""
    is_tagged: int
    lease_left: float
    """As BlobRow has it."""
    idle: float
    """Seconds since it was last pushed or pulled."""


_ROW = (
    "SELECT b.id, b.digest, (SELECT s.digest FROM blob s JOIN manifest h ON h.blob_id = s.id"  # noqa: S608 - constant
    " WHERE s.digest = o.subject AND h.repository_id = o.repository_id),"
    " CASE WHEN EXISTS (SELECT 1 FROM tag t WHERE t.repository_id = o.repository_id AND t.blob_id = o.blob_id)"
    f" THEN 1 ELSE 0 END, {LEASE_LEFT}, wall_now() - greatest(o.pushed_at, coalesce(o.pulled_at, 0))"
)
_FIND = Statement(
    f"{_ROW} FROM blob b JOIN manifest o ON o.blob_id = b.id WHERE b.digest = :digest AND o.repository_id = :repository"
)
_CHILDREN = Statement(
    f"{_ROW} FROM reference r JOIN blob b ON b.digest = r.digest"
    " JOIN manifest o ON o.repository_id = r.repository_id AND o.blob_id = b.id"
    " WHERE r.repository_id = :repository AND r.manifest_id = :manifest AND r.kind IN ('manifest', 'former')"
    " ORDER BY b.digest"
)
_LISTED_BY = Statement(
    "SELECT r.manifest_id FROM reference r WHERE r.repository_id = :repository AND r.digest = :digest"
    " AND (r.kind <> 'former' OR EXISTS"
    " (SELECT 1 FROM tag t WHERE t.repository_id = r.repository_id AND t.blob_id = r.manifest_id))"
)


def find(connection: Transaction, repository_id: int, digest: str) -> Later[ClosureRow | None]:
    """The manifest with this digest, or None."""
    return connection.execute(_FIND, {"repository": repository_id, "digest": digest}).first_as(ClosureRow)


def children(connection: Transaction, repository_id: int, manifest_id: int) -> Later[list[ClosureRow]]:
    """The manifests of the repository that this one lists, by digest."""
    return connection.execute(_CHILDREN, {"repository": repository_id, "manifest": manifest_id}).all_as(ClosureRow)


def listed_by(connection: Transaction, repository_id: int, digest: str) -> Later[set[int]]:
    """The ids of all manifests that list this one, but former fallback indexes without a tag."""
    rows = connection.execute(_LISTED_BY, {"repository": repository_id, "digest": digest})
    return rows.later(lambda rows: {row[0] for row in rows.all()})
