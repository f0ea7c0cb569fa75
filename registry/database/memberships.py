"""Rows of memberships: which repository has which blob (I4).

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.blobs import COLUMNS, LEASE_LEFT, BlobRow
from registry.database.statement import Statement, batches
from registry.database.transaction import Later

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.transaction import Transaction

MADE = "m.found IS NULL"
"""Says of a membership ``m`` that a client made it, or deleted a manifest that named the blob.

Another is of a file that was found in the directory of its repository: a tool may be about to name it, however long
that takes, so that a collection ends it only where it is asked to.
"""

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
_STATES = Statement(
    "SELECT b.digest, b.state FROM blob b WHERE b.digest IN :digests AND"
    " (SELECT m.blob_id FROM membership m WHERE m.repository_id = :repository AND m.blob_id = b.id) IS NOT NULL",
    expanding="digests",
)
_OF_REPOSITORY = Statement(
    f"SELECT {COLUMNS} FROM membership m JOIN blob b ON b.id = m.blob_id"  # noqa: S608 - constant columns
    " WHERE m.repository_id = :repository ORDER BY b.digest"
)
_UNNEEDED = Statement(
    f"SELECT {COLUMNS} FROM membership m JOIN blob b ON b.id = m.blob_id"  # noqa: S608 - constant columns
    f" WHERE m.repository_id = :repository AND m.blob_id > :after AND {LEASE_LEFT} <= 0 AND m.added_at < :before"
    " AND NOT EXISTS (SELECT 1 FROM manifest o WHERE o.repository_id = :repository AND o.blob_id = m.blob_id)"
    " AND NOT EXISTS (SELECT 1 FROM reference r WHERE r.repository_id = :repository AND r.digest = b.digest)"
    " ORDER BY m.blob_id LIMIT :count",
    locking="b",
)
_ADD = Statement(
    "INSERT INTO membership (repository_id, blob_id, added_at) VALUES (:repository, :blob, :now)"
    " ON CONFLICT (repository_id, blob_id) DO UPDATE SET found = NULL WHERE membership.found IS NOT NULL"
)
_ADD_FOUND = Statement(
    "INSERT INTO membership (repository_id, blob_id, added_at, found) VALUES (:repository, :blob, :now, 1)"
    " ON CONFLICT DO NOTHING"
)
_REMOVE = Statement("DELETE FROM membership WHERE repository_id = :repository AND blob_id = :blob")
_REMOVE_ALL = Statement(
    "DELETE FROM membership WHERE repository_id = :repository AND blob_id IN :blobs", expanding="blobs"
)
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
        for batch in batches([str(digest) for digest in digests])
    ]
    return Later(lambda: {row.digest: row for rows in found for row in rows.get()})


def states(connection: Transaction, repository_id: int, digests: Iterable[str]) -> Later[dict[str, str]]:
    """The states of those of ``digests`` that the repository has, by digest: what a push of a manifest needs."""
    found = [
        connection.execute(_STATES, {"repository": repository_id, "digests": batch}).later(lambda rows: rows.all())
        for batch in batches([str(digest) for digest in digests])
    ]
    return Later(lambda: {digest: state for rows in found for digest, state in rows.get()})


def of_repository(connection: Transaction, repository_id: int) -> Later[list[BlobRow]]:
    """Every blob of a repository, manifests too, by digest."""
    return connection.execute(_OF_REPOSITORY, {"repository": repository_id}).all_as(BlobRow)


def unneeded(
    connection: Transaction, repository_id: int, *, before: float, after: int, count: int
) -> Later[list[BlobRow]]:
    """At most ``count`` members that no manifest of the repository names, of ids above ``after``, by id.

    None is a manifest, has a lease, or came after ``before``, which says nothing of when it fell out of use.
    The caller makes sure that references are complete, and otherwise does as for ``manifests.unneeded``.
    """
    values = {"repository": repository_id, "before": before, "after": after, "count": count}
    return connection.execute(_UNNEEDED, values).all_as(BlobRow)


def add(connection: Transaction, repository_id: int, blob_id: int, *, now: float) -> None:
    """Make the blob a member of the repository, for a client."""
    connection.execute(_ADD, {"repository": repository_id, "blob": blob_id, "now": now})


def add_found(connection: Transaction, repository_id: int, blob_id: int, *, now: float) -> None:
    """As ``add``, for a file that was found in the repository's directory; see MADE."""
    connection.execute(_ADD_FOUND, {"repository": repository_id, "blob": blob_id, "now": now})


def remove(connection: Transaction, repository_id: int, blob_id: int) -> bool:
    """End a membership. False if there was none."""
    return bool(connection.execute(_REMOVE, {"repository": repository_id, "blob": blob_id}).rowcount)


def remove_all(connection: Transaction, repository_id: int, blob_ids: Sequence[int]) -> None:
    """End those memberships of the repository, at most BATCH."""
    connection.execute(_REMOVE_ALL, {"repository": repository_id, "blobs": blob_ids})


def repositories_with(connection: Transaction, blob_id: int) -> Later[list[str]]:
    """Names of repositories that have the blob, at most 20, the oldest repository first."""
    return connection.execute(_REPOSITORIES_WITH, {"blob": blob_id}).all_as(str)
