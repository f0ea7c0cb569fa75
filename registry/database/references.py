"""Rows of references that a release before this one has left out: of blobs that need not be there (I13).

A manifest is *complete* when there is a row for everything that it names. Such a release puts manifests that are not,
also while it runs beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.transaction import Later, Transaction

START = (-1, -1)
"""Before every manifest."""


class IncompleteRow(NamedTuple):
    """A manifest of which rows may be missing."""

    repository_id: int
    repository: str
    """Its name."""
    blob_id: int
    digest: str
    media_type: str
    size: int
    """Bytes."""


_INCOMPLETE = (
    "SELECT m.repository_id, r.name, m.blob_id, b.digest, m.media_type, b.size FROM manifest m"
    " JOIN repository r ON r.id = m.repository_id JOIN blob b ON b.id = m.blob_id"
    " WHERE m.complete = 0 AND b.state = 'present'"
)
_PAGE = Statement(
    f"{_INCOMPLETE} AND (m.repository_id, m.blob_id) > (:repository, :blob)"
    " ORDER BY m.repository_id, m.blob_id LIMIT :count"
)
_PAGE_OF = Statement(
    f"{_INCOMPLETE} AND m.repository_id = :repository AND m.blob_id > :blob ORDER BY m.blob_id LIMIT :count"
)
_ADD = Statement(
    "INSERT INTO reference (repository_id, manifest_id, digest, kind)"
    " SELECT m.repository_id, m.blob_id, :digest, 'optional' FROM manifest m"
    " WHERE m.repository_id = :repository AND m.blob_id = :blob"
    " ON CONFLICT (repository_id, manifest_id, digest) DO NOTHING"
)
_COMPLETE = Statement("UPDATE manifest SET complete = 1 WHERE repository_id = :repository AND blob_id = :blob")
_LACKING = Statement(
    "SELECT DISTINCT r.digest FROM reference r WHERE r.repository_id = :repository AND r.digest > :after"
    " AND r.kind = 'optional' AND NOT EXISTS (SELECT 1 FROM blob b JOIN membership m ON m.blob_id = b.id"
    " WHERE b.digest = r.digest AND m.repository_id = r.repository_id)"
    " AND NOT EXISTS (SELECT 1 FROM withheld w WHERE w.repository_id = r.repository_id AND w.digest = r.digest"
    " AND w.kind = 'blob') ORDER BY r.digest LIMIT :count"
)


def incomplete(connection: Transaction, *, after: tuple[int, int], count: int) -> Later[list[IncompleteRow]]:
    """At most ``count`` manifests that are there and not complete, whose repository and id come after those."""
    values = {"repository": after[0], "blob": after[1], "count": count}
    return connection.execute(_PAGE, values).all_as(IncompleteRow)


def incomplete_of(connection: Transaction, repository_id: int, *, after: int, count: int) -> Later[list[IncompleteRow]]:
    """As ``incomplete``, in one repository."""
    values = {"repository": repository_id, "blob": after, "count": count}
    return connection.execute(_PAGE_OF, values).all_as(IncompleteRow)


def complete(connection: Transaction, repository_id: int, blob_id: int, optional: Iterable[str]) -> None:
    """Add what a manifest names and need not be there. A row that is there stays as it is.

    Nothing is added where the repository, which is locked, has no such manifest any more.
    """
    values = {"repository": repository_id, "blob": blob_id}
    connection.execute_many(_ADD, [{**values, "digest": digest} for digest in sorted(optional)])
    connection.execute(_COMPLETE, values)


def lacking(connection: Transaction, repository_id: int, *, after: str, count: int) -> Later[list[Digest]]:
    """At most ``count`` digests after that one that need not be there, are not, and that no row withholds."""
    values = {"repository": repository_id, "after": after, "count": count}
    return connection.execute(_LACKING, values).all_as(Digest)
