"""Uses of API keys: when each was last verified, for the operator that looks for keys without one.

Only the database has it: it says nothing of what a key may do.

Tests: ``tests/auth/keys/test_api_keys.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

_LIST = Statement("SELECT id, used_at FROM key_use")
_NOTE = Statement(
    "INSERT INTO key_use (id, used_at) VALUES (:id, :used_at) ON CONFLICT (id) DO UPDATE"
    " SET used_at = excluded.used_at WHERE excluded.used_at > key_use.used_at"
)
_FORGET = Statement("DELETE FROM key_use WHERE id = :id")


def of_all(connection: Transaction) -> Later[dict[str, float]]:
    """When each key was last used, in seconds since the epoch; one that never was is missing."""
    return connection.execute(_LIST, {}).later(lambda rows: {row[0]: row[1] for row in rows.all()})


def note(connection: Transaction, key_id: str, used_at: float) -> None:
    """A key was used then, or later."""
    connection.execute(_NOTE, {"id": key_id, "used_at": used_at})


def forget(connection: Transaction, key_id: str) -> None:
    """The key is gone."""
    connection.execute(_FORGET, {"id": key_id})
