"""Rows of leases: the right of one process at a time to do a piece of background work.

Tests: ``tests/background/test_leases.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

MARK = "collects"
"""A part of the name of each holder whose release knows what a collection needs; see ``collection.former_releases``."""

_TAKE = Statement(
    "INSERT INTO lease (name, holder, deadline) VALUES (:name, :holder, wall_now() + :seconds)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, deadline = excluded.deadline"
    " WHERE lease.holder = excluded.holder OR lease.deadline < wall_now()"
)
_TAKE_FROM = Statement(
    "UPDATE lease SET holder = :holder, deadline = wall_now() + :seconds WHERE name = :name AND holder = :other"
)
_FIND = Statement("SELECT holder, deadline FROM lease WHERE name = :name")
_FREE = Statement("DELETE FROM lease WHERE name = :name AND holder = :holder")
_REMOVE_OVER = Statement(
    "DELETE FROM lease WHERE name IN (SELECT name FROM lease WHERE name >= :prefix AND name < :end"
    " AND deadline < wall_now() - :seconds ORDER BY name LIMIT :count)"
)


class LeaseRow(NamedTuple):
    """The holder of a lease."""

    holder: str
    deadline: float
    """Seconds since the epoch, by the clock of the database."""


def take(connection: Transaction, name: str, holder: str, *, seconds: float) -> bool:
    """Take or renew a lease for so long, by the clock of the database. False if another process holds it."""
    values = {"name": name, "holder": holder, "seconds": float(seconds)}
    return bool(connection.execute(_TAKE, values).rowcount)


def take_from(connection: Transaction, name: str, holder: str, *, other: str, seconds: float) -> bool:
    """Take a lease that ``other`` holds, whatever its deadline. False if it is not its holder any more."""
    values = {"name": name, "holder": holder, "other": other, "seconds": float(seconds)}
    return bool(connection.execute(_TAKE_FROM, values).rowcount)


def find(connection: Transaction, name: str) -> Later[LeaseRow | None]:
    """The holder of a lease, or the last one; None if it was given back."""
    return connection.execute(_FIND, {"name": name}).first_as(LeaseRow)


def free(connection: Transaction, name: str, holder: str) -> None:
    """Give a lease back; no error when it is no longer ours."""
    connection.execute(_FREE, {"name": name, "holder": holder})


def remove_over(connection: Transaction, prefix: str, *, seconds: float, count: int) -> int:
    """Forget leases whose names begin so and that ended so long ago, at most ``count`` of them. How many these were.

    ``prefix`` is of ASCII.
    """
    values = {"prefix": prefix, "end": f"{prefix}\x7f", "seconds": float(seconds), "count": count}
    return connection.execute(_REMOVE_OVER, values).rowcount
