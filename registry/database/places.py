"""Rows of the places with a blob's bytes, where there may be several of them in one store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Rows, Transaction


class PlaceRow(NamedTuple):
    """A place that may be read."""

    id: int
    key: str
    size: int
    """Bytes."""
    signature: str
    state: str
    verified_at: float | None
    """None: nobody has hashed these bytes yet."""
    migration: str | None


_COLUMNS = "id, key, size, signature, state, verified_at, migration"
_ORDER = "verified_at IS NULL, state <> 'current', id"
_OF_BLOB = Statement(
    f"SELECT {_COLUMNS} FROM blob_location WHERE blob_id = :blob AND store = :store"  # noqa: S608 - constant columns
    f" AND state IN ('current', 'original', 'copy') ORDER BY {_ORDER}"
)
_SET_LOST = Statement(
    "UPDATE blob_location SET state = 'lost', verified_at = NULL"
    " WHERE id = :id AND signature = :signature AND state IN ('current', 'original', 'copy')"
)


def of_blob(connection: Transaction, blob_id: int, *, store: str) -> list[PlaceRow]:
    """Every place of a blob that may be read, the best one first: verified ones, and of these our own."""
    return of_blob_later(connection, blob_id, store=store).get()


def of_blob_later(connection: Transaction, blob_id: int, *, store: str) -> Later[list[PlaceRow]]:
    """As ``of_blob``, not waited for."""
    return connection.execute(_OF_BLOB, {"blob": blob_id, "store": store}).later(_places)


def set_lost(connection: Transaction, location_id: int, *, signature: str) -> bool:
    """Never read a place again at this signature. False: it has another one by now, or is not read anyway."""
    return bool(connection.execute(_SET_LOST, {"id": location_id, "signature": signature}).rowcount)


def _places(rows: Rows) -> list[PlaceRow]:
    return [PlaceRow(*row) for row in rows]
