"""Rows of memberships: which repository has which blob (I4).

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.blobs import COLUMNS, BlobRow
from registry.database.statement import Statement, batches
from registry.database.transaction import Later

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.transaction import Transaction


_FIND = Statement(
    f"SELECT {COLUMNS} FROM blob b"  # noqa: S608 - constant columns
    " JOIN membership m ON m.blob_id = b.id WHERE m.repository_id = :repository AND b.digest = :digest"
)
_FIND_ALL = Statement(
    f"SELECT {COLUMNS} FROM blob b WHERE b.digest IN :digests AND"  # noqa: S608 - constant columns
    " (SELECT m.blob_id FROM membership m WHERE m.repository_id = :repository AND m.blob_id = b.id) IS NOT NULL",
    expanding="digests",
)
"""Not a join, of which a planner that knows nothing of the tables may read all members of the repository."""
_OF_REPOSITORY = Statement(
    f"SELECT {COLUMNS} FROM membership m JOIN blob b ON b.id = m.blob_id"  # noqa: S608 - constant columns
    " WHERE m.repository_id = :repository ORDER BY b.digest"
)
_ADD = Statement(
    "INSERT INTO membership (repository_id, blob_id, added_at) VALUES (:repository, :blob, :now) ON CONFLICT DO NOTHING"
)
_REMOVE = Statement("DELETE FROM membership WHERE repository_id = :repository AND blob_id = :blob")
_REPOSITORIES_WITH = Statement(
    "SELECT r.name FROM repository r JOIN membership m ON m.repository_id = r.id"
    " WHERE m.blob_id = :blob ORDER BY r.id LIMIT 20"
)


def find(connection: Transaction, repository_id: int, digest: str) -> Later[BlobRow | None]:
    """The blob if the repository has it (I4), or None."""
    return connection.execute(_FIND, {"repository": repository_id, "digest": digest}).first_as(BlobRow)


def find_all(connection: Transaction, repository_id: int, digests: Iterable[str]) -> Later[dict[str, BlobRow]]:
    """Those of ``digests`` that the repository has, by digest."""
    found = [
        connection.execute(_FIND_ALL, {"repository": repository_id, "digests": batch}).all_as(BlobRow)
        for batch in batches(list(digests))
    ]
    return Later(lambda: {row.digest: row for rows in found for row in rows.get()})


def of_repository(connection: Transaction, repository_id: int) -> Later[list[BlobRow]]:
    """Every blob of a repository, manifests too, by digest."""
    return connection.execute(_OF_REPOSITORY, {"repository": repository_id}).all_as(BlobRow)


def add(connection: Transaction, repository_id: int, blob_id: int, *, now: float) -> None:
    """Make the blob a member of the repository."""
    connection.execute(_ADD, {"repository": repository_id, "blob": blob_id, "now": now})


def remove(connection: Transaction, repository_id: int, blob_id: int) -> bool:
    """End a membership. False if there was none."""
    return bool(connection.execute(_REMOVE, {"repository": repository_id, "blob": blob_id}).rowcount)


def repositories_with(connection: Transaction, blob_id: int) -> Later[list[str]]:
    """Names of repositories that have the blob, at most 20, the oldest repository first."""
    return connection.execute(_REPOSITORIES_WITH, {"blob": blob_id}).all_as(str)
