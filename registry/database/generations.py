"""Generations: marks that change whenever something is taken away that processes remember, as an API key is.

A mark is random, not a number that grows: a database that was lost and filled again never has one that it had before.

Tests: ``tests/auth/keys/test_api_keys.py``.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

_FIND = Statement("SELECT mark FROM generation WHERE name = :name")
_CHANGE = Statement(
    "INSERT INTO generation (name, mark) VALUES (:name, :mark) ON CONFLICT (name) DO UPDATE SET mark = excluded.mark"
)


def find(connection: Transaction, name: str) -> Later[str]:
    """The mark; empty if it never changed."""
    return connection.execute(_FIND, {"name": name}).later(lambda rows: row[0] if (row := rows.first()) else "")


def change(connection: Transaction, name: str) -> None:
    """Make it another one."""
    connection.execute(_CHANGE, {"name": name, "mark": secrets.token_hex(8)})
