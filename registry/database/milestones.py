"""Rows of milestones: what has been done once with this database, and need not be done again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Transaction

STORAGE_READ = "storage-read"
"""Every repository that storage had was read into this database."""

_REACHED = Statement("SELECT 1 FROM milestone WHERE name = :name")
_REACH = Statement("INSERT INTO milestone (name, reached_at) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING")


def is_reached(connection: Transaction, name: str) -> bool:
    """Whether it was."""
    return connection.execute(_REACHED, {"name": name}).first() is not None


def reach(connection: Transaction, name: str, *, now: float) -> None:
    """Note that it was."""
    connection.execute(_REACH, {"name": name, "now": now})
