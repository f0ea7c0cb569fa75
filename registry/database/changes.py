"""Changes: rows of pending changes, which have a number and are not yet folded into ``index.json`` (I11).

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.transaction import Later, Transaction

PENDING = "pending"
RECORDED = "recorded"


class ChangeRow(NamedTuple):
    """One change of a repository."""

    sequence: int
    state: str
    """PENDING: its record may not be on storage; RECORDED: it is."""
    created_at: float
    record: bytes
    """The exact line of the journal."""


_ADD = Statement(
    "INSERT INTO change (repository_id, sequence, state, created_at, record)"
    " VALUES (:repository, :sequence, :state, :now, :record) ON CONFLICT DO NOTHING"
)
_OF = Statement(
    "SELECT sequence, state, created_at, record FROM change WHERE repository_id = :repository ORDER BY sequence"
)
_OF_NAME = Statement(
    "SELECT c.sequence, c.state, c.created_at, c.record FROM repository r JOIN change c ON c.repository_id = r.id"
    " WHERE r.name = :name ORDER BY c.sequence"
)
_OLDEST_PENDING = Statement(
    "SELECT min(created_at) FROM change WHERE repository_id = :repository AND state = 'pending'"
)
_FIND = Statement("SELECT record FROM change WHERE repository_id = :repository AND sequence = :sequence")
_MARK = Statement("UPDATE change SET state = 'recorded' WHERE repository_id = :repository AND sequence = :sequence")
_REMOVE_ALL = Statement("DELETE FROM change WHERE repository_id = :repository")
_REMOVE_ONE = Statement(
    "DELETE FROM change WHERE repository_id = :repository AND sequence = :sequence AND record = :record"
)
_REMOVE = Statement(
    "DELETE FROM change WHERE repository_id = :repository AND sequence <= :folded AND state = 'recorded'"
)


def remove(connection: Transaction, repository_id: int, sequence: int, record: bytes) -> None:
    """Forget a change, if it is this one that has the number."""
    connection.execute(_REMOVE_ONE, {"repository": repository_id, "sequence": sequence, "record": record})


def remove_all(connection: Transaction, repository_id: int) -> None:
    """Forget every change: they are of an older copy of the database than storage."""
    connection.execute(_REMOVE_ALL, {"repository": repository_id})


def add(connection: Transaction, repository_id: int, sequence: int, record: bytes, *, state: str, now: float) -> None:
    """Keep a change until it is folded; one that is kept already stays as it is."""
    values = {"repository": repository_id, "sequence": sequence, "state": state, "now": now, "record": record}
    connection.execute(_ADD, values)


def of_repository(connection: Transaction, repository_id: int) -> Later[list[ChangeRow]]:
    """Every change that is not folded, in the order of their numbers."""
    return connection.execute(_OF, {"repository": repository_id}).all_as(ChangeRow)


def of_name(connection: Transaction, name: str) -> Later[list[ChangeRow]]:
    """As ``of_repository``, by the name of the repository."""
    return connection.execute(_OF_NAME, {"name": name}).all_as(ChangeRow)


def oldest_pending(connection: Transaction, repository_id: int) -> Later[float | None]:
    """When the oldest change was made whose record may not be on storage; None if there is none."""
    return connection.execute(_OLDEST_PENDING, {"repository": repository_id}).later(lambda rows: rows.one()[0])


def find(connection: Transaction, repository_id: int, sequence: int) -> Later[bytes | None]:
    """The record of a change; None if it is folded."""
    return connection.execute(_FIND, {"repository": repository_id, "sequence": sequence}).first_as(bytes)


def mark_recorded(connection: Transaction, changes: Iterable[tuple[int, int]]) -> None:
    """Note that the records of these (repository id, sequence) are durable on storage."""
    rows = [{"repository": repository_id, "sequence": sequence} for repository_id, sequence in changes]
    connection.execute_many(_MARK, rows)


def remove_folded(connection: Transaction, repository_id: int, *, folded: int) -> None:
    """Forget recorded changes up to ``folded``; the journal keeps them as history."""
    connection.execute(_REMOVE, {"repository": repository_id, "folded": folded})
