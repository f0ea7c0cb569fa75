"""Rows of memberships: which repository has which blob (I4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.blobs import BATCH
from registry.database.statement import Statement
from registry.database.transaction import Later

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.transaction import Transaction


class MemberRow(NamedTuple):
    """A blob as a member of one repository."""

    id: int
    digest: str
    size: int
    state: str
    leased_until: float


_FIND = Statement(
    "SELECT b.id, b.digest, b.size, b.state, b.leased_until FROM blob b"
    " JOIN membership m ON m.blob_id = b.id WHERE m.repository_id = :repository AND b.digest = :digest"
)
_FIND_ALL = Statement(
    "SELECT b.id, b.digest, b.size, b.state, b.leased_until FROM blob b WHERE b.digest IN :digests AND"
    " (SELECT m.blob_id FROM membership m WHERE m.repository_id = :repository AND m.blob_id = b.id) IS NOT NULL",
    expanding="digests",
)
"""Not a join, of which a planner that knows nothing of the tables may read all members of the repository."""
_ADD = Statement(
    "INSERT INTO membership (repository_id, blob_id, added_at) VALUES (:repository, :blob, :now) ON CONFLICT DO NOTHING"
)
_REMOVE = Statement("DELETE FROM membership WHERE repository_id = :repository AND blob_id = :blob")
_REPOSITORIES_WITH = Statement(
    "SELECT r.name FROM repository r JOIN membership m ON m.repository_id = r.id"
    " WHERE m.blob_id = :blob ORDER BY r.id LIMIT 20"
)


def find(connection: Transaction, repository_id: int, digest: str) -> Later[MemberRow | None]:
    """The blob if the repository has it (I4), or None."""
    return connection.execute(_FIND, {"repository": repository_id, "digest": digest}).first_as(MemberRow)


def find_all(connection: Transaction, repository_id: int, digests: Iterable[str]) -> Later[dict[str, MemberRow]]:
    """Those of ``digests`` that the repository has, by digest."""
    found = [
        connection.execute(_FIND_ALL, {"repository": repository_id, "digests": batch}).all_as(MemberRow)
        for batch in _batches(list(digests))
    ]
    return Later(lambda: {row.digest: row for rows in found for row in rows.get()})


def add(connection: Transaction, repository_id: int, blob_id: int, *, now: float) -> None:
    """Make the blob a member of the repository."""
    connection.execute(_ADD, {"repository": repository_id, "blob": blob_id, "now": now})


def remove(connection: Transaction, repository_id: int, blob_id: int) -> bool:
    """End a membership. False: there was none."""
    return bool(connection.execute(_REMOVE, {"repository": repository_id, "blob": blob_id}).rowcount)


def repositories_with(connection: Transaction, blob_id: int) -> Later[list[str]]:
    """Names of repositories that have the blob, at most 20, the oldest repository first."""
    return connection.execute(_REPOSITORIES_WITH, {"blob": blob_id}).all_as(str)


def _batches(digests: list[str]) -> Iterable[Sequence[str]]:
    return (digests[start : start + BATCH] for start in range(0, len(digests), BATCH))
