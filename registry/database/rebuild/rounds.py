"""Rows of rounds: one reading of all repositories that storage has, perhaps by several processes one after the other.

Tests: ``tests/maintenance/test_rebuild.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Transaction


class RoundRow(NamedTuple):
    """A round that has not ended."""

    number: int
    """Random, and not 0."""
    began_at: float
    """Seconds since the epoch."""
    reached: str
    """The last repository that is done, in the order of the walk; "" for none."""
    repositories: int
    """Repositories that storage and database agree on."""
    problems: str
    """What could not be read: a JSON list."""
    unlisted: int
    """Problems that are not in the list, which is bounded."""


_COLUMNS = "number, began_at, reached, repositories, problems, unlisted"
_FIND = Statement(f"SELECT {_COLUMNS} FROM rebuild_round WHERE name = 'rebuild'")  # noqa: S608 - constant columns
_BEGIN = Statement(
    f"INSERT INTO rebuild_round (name, {_COLUMNS})"  # noqa: S608 - constant columns
    " VALUES ('rebuild', :number, :began_at, :reached, :repositories, :problems, :unlisted)"
    " ON CONFLICT (name) DO UPDATE SET number = excluded.number, began_at = excluded.began_at,"
    " reached = excluded.reached, repositories = excluded.repositories, problems = excluded.problems,"
    " unlisted = excluded.unlisted"
)
_ADVANCE = Statement(
    "UPDATE rebuild_round SET reached = :reached, repositories = :repositories, problems = :problems,"
    " unlisted = :unlisted WHERE name = 'rebuild' AND number = :number"
)
_END = Statement("DELETE FROM rebuild_round WHERE name = 'rebuild' AND number = :number")
_MARK = Statement("UPDATE repository SET rebuilt = :number WHERE id = :id")
_UNMARKED = Statement(
    "SELECT name FROM repository WHERE name > :last AND rebuilt <> :number ORDER BY name LIMIT :count"
)


def find(connection: Transaction) -> Later[RoundRow | None]:
    """The round that has not ended; None if the last one has."""
    return connection.execute(_FIND, {}).first_as(RoundRow)


def begin(connection: Transaction, row: RoundRow) -> None:
    """Begin a round in place of the one that has not ended."""
    connection.execute(_BEGIN, row._asdict())


def advance(connection: Transaction, row: RoundRow, *, done: Sequence[int]) -> None:
    """Note how far the round has come, unless it has ended; ``done`` are ids of repositories."""
    # In the order in which other transactions lock several.
    connection.execute_many(_MARK, [{"number": row.number, "id": repository_id} for repository_id in sorted(done)])
    connection.execute(_ADVANCE, row._asdict())


def end(connection: Transaction, number: int) -> None:
    """Forget a round that is done."""
    connection.execute(_END, {"number": number})


def unmarked(connection: Transaction, number: int, *, last: str, count: int) -> Later[list[str]]:
    """At most ``count`` repositories after ``last`` that are not done in this round, in byte order."""
    return connection.execute(_UNMARKED, {"number": number, "last": last, "count": count}).all_as(str)
