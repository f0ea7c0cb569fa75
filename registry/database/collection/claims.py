"""Claims of many locations at once, by one deleter under one token (proposal 0011).

Tests: ``tests/maintenance/collection/test_run.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.blob_locations import TAKE, Claiming
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Transaction


class ClaimedRow(NamedTuple):
    """A location that was claimed."""

    blob_id: int
    key: str
    size: int
    """Bytes."""
    etag: str


_CLAIM = Statement(
    f"{TAKE.format(place='key IN :keys')} AND state IN ('current', 'lost') RETURNING blob_id, key, size, signature",
    expanding="keys",
)
_RAISE_GENERATIONS = Statement("UPDATE blob SET generation = generation + 1 WHERE id IN :blobs", expanding="blobs")
_SET_SENT = Statement(
    "UPDATE blob_location SET claim_sent = 1 WHERE store = :store AND key IN :keys AND claim_token = :token"
    " AND claim_timed = :token AND claim_clock = clock_name() AND claim_until > clock_now() RETURNING key",
    expanding="keys",
)
_END = Statement(
    "UPDATE blob_location SET claim_until = clock_now(), claim_sent = :sent, claim_deadline = wall_now() + :unclear"
    " WHERE store = :store AND key IN :keys AND claim_token = :token AND claim_timed = :token",
    expanding="keys",
)
_REMOVE = Statement(
    "DELETE FROM blob_location WHERE store = :store AND key IN :keys AND claim_token = :token RETURNING blob_id",
    expanding="keys",
)
_BURY = Statement(
    "UPDATE blob SET state = 'gone', gone_clock = clock_name(), gone_at = clock_now()"
    " WHERE id IN :blobs AND state <> 'gone'"
    " AND NOT EXISTS (SELECT 1 FROM blob_location l WHERE l.blob_id = blob.id)"
    " AND NOT EXISTS (SELECT 1 FROM membership m WHERE m.blob_id = blob.id)",
    expanding="blobs",
)
_CURRENT = Statement(
    "SELECT blob_id, key, size, signature FROM blob_location"
    " WHERE store = :store AND key IN :keys AND state IN ('current', 'lost') AND migration IS NULL",
    expanding="keys",
)
_LOCATED = Statement("SELECT DISTINCT blob_id FROM blob_location WHERE blob_id IN :blobs", expanding="blobs")
_LOCK_BLOBS = Statement("SELECT id FROM blob WHERE id IN :blobs ORDER BY digest", expanding="blobs", locking="blob")


def current(connection: Transaction, keys: Sequence[str], *, store: str) -> list[ClaimedRow]:
    """Those of ``keys``, at most BATCH, that are ours to delete, with right bytes or wrong ones: no migration's."""
    return connection.execute(_CURRENT, {"store": store, "keys": keys}).all_as(ClaimedRow).get()


def located(connection: Transaction, blob_ids: Sequence[int]) -> set[int]:
    """Those of these blobs, at most BATCH, of which any location is known, in whatever store and state."""
    return {row[0] for row in connection.execute(_LOCATED, {"blobs": blob_ids}).all()}


def claim(connection: Transaction, wanted: Claiming, keys: Sequence[str]) -> list[ClaimedRow]:
    """Claim those of ``keys``, at most BATCH, that ``current`` finds. Their blobs are locked.

    The key of ``wanted`` says nothing.
    """
    rows = connection.execute(_CLAIM, {**wanted._asdict(), "keys": keys}).all_as(ClaimedRow).get()
    if rows:
        connection.execute(_RAISE_GENERATIONS, {"blobs": [row.blob_id for row in rows]})
    return rows


def set_sent(connection: Transaction, keys: Sequence[str], *, store: str, token: str) -> Later[set[str]]:
    """Note that these are about to be deleted; those whose claims still run."""
    values = {"store": store, "keys": keys, "token": token}
    return connection.execute(_SET_SENT, values).later(lambda rows: {row[0] for row in rows.all()})


def end(connection: Transaction, keys: Sequence[str], *, store: str, token: str, unclear: float | None) -> None:
    """End claims of objects that were not deleted; ``unclear``: for so many seconds they may yet be."""
    values = {"store": store, "keys": keys, "token": token, "sent": int(unclear is not None), "unclear": unclear or 0.0}
    connection.execute(_END, values)


def remove(connection: Transaction, blob_ids: Sequence[int], keys: Sequence[str], *, store: str, token: str) -> None:
    """Forget locations whose objects are gone, and bury their blobs where nothing else is known of them."""
    connection.execute(_LOCK_BLOBS, {"blobs": blob_ids})
    removed = [row[0] for row in connection.execute(_REMOVE, {"store": store, "keys": keys, "token": token}).all()]
    bury(connection, removed)


def bury(connection: Transaction, blob_ids: Sequence[int]) -> int:
    """Make tombstones of blobs without any location, that no repository has. They are locked. Returns how many."""
    return connection.execute(_BURY, {"blobs": blob_ids}).rowcount if blob_ids else 0
