"""Signing keys: what all processes sign with, so that each knows what another has given to a client.

A database that is lost takes them along: what was signed before is then unknown.

Tests: ``tests/auth/tokens/test_signing_keys.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

_LIST = Statement(
    "SELECT id, value, created_at FROM signing_key WHERE purpose = :purpose ORDER BY created_at DESC, id DESC"
)
_ADD = Statement(
    "INSERT INTO signing_key (id, purpose, value, created_at) VALUES (:id, :purpose, :value, :now)"
    " ON CONFLICT (id) DO NOTHING"
)
_REMOVE = Statement("DELETE FROM signing_key WHERE id = :id")


class SigningKeyRow(NamedTuple):
    """A key."""

    id: str
    value: bytes
    created_at: float
    """Seconds since the epoch."""


def of_purpose(connection: Transaction, purpose: str) -> Later[list[SigningKeyRow]]:
    """The keys for one purpose, the newest first."""
    return connection.execute(_LIST, {"purpose": purpose}).later(
        lambda rows: [SigningKeyRow(key_id, bytes(value), created_at) for key_id, value, created_at in rows.all()]
    )


def add(connection: Transaction, key_id: str, purpose: str, value: bytes, *, now: float) -> None:
    """Add a key, unless there is one with this id: of two processes that add it at once one is first."""
    connection.execute(_ADD, {"id": key_id, "purpose": purpose, "value": value, "now": now})


def remove(connection: Transaction, key_id: str) -> None:
    """Remove a key; no error when there is none."""
    connection.execute(_REMOVE, {"id": key_id})
