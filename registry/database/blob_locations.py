"""Rows of the places with a blob's bytes, where there may be several of them in one store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.blobs import HeldRow
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Transaction


class PlaceRow(NamedTuple):
    """A place that may be read."""

    id: int
    key: str
    size: int
    """Bytes."""
    signature: str
    state: str
    verified_at: float | None
    """None if these bytes were not hashed yet."""
    migration: str | None


READABLE = ("current", "original", "copy")
"""States of places that are read."""
_READABLE = f"{READABLE!r}"
"""As SQL writes them."""
_PREFIXED = "l.id, l.key, l.size, l.signature, l.state, l.verified_at, l.migration"
_COLUMNS = "id, key, size, signature, state, verified_at, migration"
_ORDER = "verified_at IS NULL, state <> 'current', id"
_OF_BLOB = Statement(
    f"SELECT {_COLUMNS} FROM blob_location WHERE blob_id = :blob AND store = :store"  # noqa: S608 - constant columns
    f" AND state IN {_READABLE} ORDER BY {_ORDER}"
)
_OF_DIGEST = Statement(
    f"SELECT {_PREFIXED} FROM blob b JOIN blob_location l ON l.blob_id = b.id AND l.store = :store"  # noqa: S608 - as above
    f" WHERE b.digest = :digest AND l.state IN {_READABLE} ORDER BY l.verified_at IS NULL, l.state <> 'current', l.id"
)
_BEST = (
    f"l.id = (SELECT p.id FROM blob_location p WHERE p.blob_id = b.id AND p.store = :store AND p.state IN {_READABLE}"  # noqa: S608
    " ORDER BY p.verified_at IS NULL, p.state <> 'current', p.id LIMIT 1)"
)
_HELD = Statement(
    "SELECT b.id, b.digest, b.size, b.state, b.leased_until, l.id, l.state, l.verified_at, l.key, l.signature"  # noqa: S608
    f" FROM membership m JOIN blob b ON b.id = m.blob_id LEFT JOIN blob_location l ON {_BEST}"
    " WHERE b.digest = :digest AND m.repository_id = :repository"
)
_KNOWN = Statement(
    "SELECT b.digest, b.id FROM blob b WHERE b.digest IN :digests AND EXISTS"  # noqa: S608 - constant columns
    f" (SELECT 1 FROM blob_location l WHERE l.blob_id = b.id AND l.store = :store AND l.state IN {_READABLE})",
    expanding="digests",
)
_SET_VERIFIED = Statement(
    "UPDATE blob_location SET verified_at = :now, signature = :signature WHERE id = :id AND signature = :was"
)
_SET_LOST = Statement(
    "UPDATE blob_location SET state = 'lost', verified_at = NULL"  # noqa: S608 - constant columns
    f" WHERE id = :id AND signature = :signature AND state IN {_READABLE}"
)


def of_blob(connection: Transaction, blob_id: int, *, store: str) -> Later[list[PlaceRow]]:
    """Every place of a blob that may be read, the best one first: verified ones, and of these our own."""
    return connection.execute(_OF_BLOB, {"blob": blob_id, "store": store}).all_as(PlaceRow)


def of_digest(connection: Transaction, digest: str, *, store: str) -> Later[list[PlaceRow]]:
    """As ``of_blob``, by digest."""
    return connection.execute(_OF_DIGEST, {"digest": digest, "store": store}).all_as(PlaceRow)


def held(connection: Transaction, repository_id: int, digest: str, *, store: str) -> Later[HeldRow | None]:
    """The blob if the repository has it (I4), with the best of its places; or None."""
    values = {"repository": repository_id, "digest": digest, "store": store}
    return connection.execute(_HELD, values).first_as(HeldRow)


def known(connection: Transaction, digests: Sequence[str], *, store: str) -> Later[dict[str, int]]:
    """The ids of those of ``digests``, at most BATCH, of which a place is noted that may be read."""
    return connection.execute(_KNOWN, {"digests": digests, "store": store}).later(lambda rows: dict(rows.all()))


def set_verified(connection: Transaction, location_id: int, *, was: str, signature: str, now: float) -> None:
    """Note that the object was hashed at ``signature`` and is right, unless the row says another than ``was`` now."""
    connection.execute(_SET_VERIFIED, {"id": location_id, "was": was, "signature": signature, "now": now})


def set_lost(connection: Transaction, location_id: int, *, signature: str) -> bool:
    """Never read a place again at this signature. False: it has another one by now, or is not read anyway."""
    return bool(connection.execute(_SET_LOST, {"id": location_id, "signature": signature}).rowcount)
