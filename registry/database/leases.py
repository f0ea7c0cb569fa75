"""Rows of leases: the right of one process at a time to do a piece of background work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Transaction

_TAKE = Statement(
    "INSERT INTO lease (name, holder, deadline) VALUES (:name, :holder, :deadline)"
    " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, deadline = excluded.deadline"
    " WHERE lease.holder = excluded.holder OR lease.deadline < :now"
)
_RENEW = Statement("UPDATE lease SET deadline = :deadline WHERE name = :name AND holder = :holder")
_DEADLINE = Statement("SELECT deadline FROM lease WHERE name = :name")
_FREE = Statement("DELETE FROM lease WHERE name = :name AND holder = :holder")


def take(connection: Transaction, name: str, holder: str, *, now: float, deadline: float) -> bool:
    """Take or renew a lease until ``deadline``. False: another holds it."""
    values = {"name": name, "holder": holder, "now": now, "deadline": deadline}
    return bool(connection.execute(_TAKE, values).rowcount)


def renew(connection: Transaction, name: str, holder: str, *, deadline: float) -> bool:
    """Keep a lease until ``deadline``, also one that has run out. False: another has taken it since."""
    return bool(connection.execute(_RENEW, {"name": name, "holder": holder, "deadline": deadline}).rowcount)


def deadline_of(connection: Transaction, name: str) -> float | None:
    """Until when somebody holds a lease; None: nobody does."""
    row = connection.execute(_DEADLINE, {"name": name}).first()
    return row[0] if row else None


def free(connection: Transaction, name: str, holder: str) -> None:
    """Give a lease back; no error when it is no longer ours."""
    connection.execute(_FREE, {"name": name, "holder": holder})
