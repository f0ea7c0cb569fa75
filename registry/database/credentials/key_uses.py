"""Uses of API keys: when each was last verified, for the operator that looks for keys without one.

Only the database has it: it says nothing of what a key may do.

Tests: ``tests/auth/keys/test_api_keys.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import BATCH, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Transaction

_FIND = Statement("SELECT id, used_at FROM key_use WHERE id IN :ids", expanding="ids")
_NOTE = Statement(
    "INSERT INTO key_use (id, used_at) VALUES (:id, :used_at) ON CONFLICT (id) DO UPDATE"
    " SET used_at = excluded.used_at WHERE excluded.used_at > key_use.used_at"
)
_FORGET = Statement("DELETE FROM key_use WHERE id = :id")


def find(connection: Transaction, key_ids: Sequence[str]) -> dict[str, float]:
    """When each of these keys was last used, in seconds since the epoch; one that never was is missing."""
    used: dict[str, float] = {}
    for start in range(0, len(key_ids), BATCH):
        rows = connection.execute(_FIND, {"ids": key_ids[start : start + BATCH]})
        used |= rows.later(lambda rows: {row[0]: row[1] for row in rows.all()}).get()
    return used


def note(connection: Transaction, key_id: str, used_at: float) -> None:
    """A key was used then, or later."""
    connection.execute(_NOTE, {"id": key_id, "used_at": used_at})


def forget(connection: Transaction, key_id: str) -> None:
    """The key is gone."""
    connection.execute(_FORGET, {"id": key_id})
