"""Rows of locations: the objects that have the bytes of blobs.

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.blobs import COLUMNS as BLOB
from registry.database.blobs import BlobRow
from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Rows, Transaction

CURRENT = "current"
"""Our own object, or after a rollback that of the source registry."""
ORIGINAL = "original"
"""An object of the source registry, which serves it too."""
COPY = "copy"
"""Our object, once a rollback has made that of the source registry current again."""
LOST = "lost"
"""It was found gone, or with other bytes, at this signature: it is not read."""
DELETING = "deleting"
"""A deleter has claimed it."""
READABLE = (CURRENT, ORIGINAL, COPY)
"""States of locations that are read."""


class LocationRow(NamedTuple):
    """An object with the bytes of a blob."""

    id: int
    blob_id: int
    key: str
    size: int
    """Bytes."""
    signature: str
    """The etag of the object when it was last known to be right."""
    state: str
    verified_at: float | None
    """None if these bytes were not hashed yet."""
    migration: str | None
    """The migration that brought it, or None."""
    claim_token: str | None
    claim_deadline: float | None


Found = tuple[BlobRow | None, LocationRow | None]
"""A blob and one of its locations, as far as there are any."""

COLUMNS = (
    "l.id, l.blob_id, l.key, l.size, l.signature, l.state, l.verified_at, l.migration, l.claim_token, l.claim_deadline"
)
_READABLE = f"{READABLE!r}"
"""As SQL writes them."""
_ORDER = "l.verified_at IS NULL, l.state <> 'current', l.id"
_WITH_BLOB = (
    f"SELECT {BLOB}, {COLUMNS}"  # noqa: S608 - constant columns
    " FROM blob b LEFT JOIN blob_location l ON l.store = :store AND l.key = :key WHERE b.digest = :digest"
)
_BLOB_AT = Statement(_WITH_BLOB)
_LOCK_BLOB_AT = Statement(_WITH_BLOB, locking="b")
_LOCK_BLOB = Statement("SELECT id FROM blob WHERE id = :id", locking="blob")
_RAISE_GENERATION = Statement("UPDATE blob SET generation = generation + 1 WHERE id = :id")
_HELD_AT = Statement(
    f"SELECT {BLOB}, {COLUMNS} FROM membership m"  # noqa: S608 - constant columns
    " JOIN blob b ON b.id = m.blob_id LEFT JOIN blob_location l ON l.store = :store AND l.key = :key"
    " WHERE b.digest = :digest AND m.repository_id = :repository"
)
_BEST = (
    f"l.id = (SELECT p.id FROM blob_location p WHERE p.blob_id = b.id AND p.store = :store AND p.state IN {_READABLE}"  # noqa: S608
    " ORDER BY p.verified_at IS NULL, p.state <> 'current', p.id LIMIT 1)"
)
_HELD = Statement(
    f"SELECT {BLOB}, {COLUMNS}"  # noqa: S608 - constant columns
    f" FROM membership m JOIN blob b ON b.id = m.blob_id LEFT JOIN blob_location l ON {_BEST}"
    " WHERE b.digest = :digest AND m.repository_id = :repository"
)
_FIND = Statement(f"SELECT {COLUMNS} FROM blob_location l WHERE l.store = :store AND l.key = :key")  # noqa: S608 - as above
_CURRENT_OF_BLOB = Statement(
    f"SELECT {COLUMNS} FROM blob_location l"  # noqa: S608 - as above
    " WHERE l.blob_id = :blob AND l.store = :store AND l.state = 'current' ORDER BY l.id"
)
_OF_BLOB = Statement(
    f"SELECT {COLUMNS} FROM blob_location l WHERE l.blob_id = :blob AND l.store = :store"  # noqa: S608 - as above
    f" AND l.state IN {_READABLE} ORDER BY {_ORDER}"
)
_OF_DIGEST = Statement(
    f"SELECT {COLUMNS} FROM blob b JOIN blob_location l ON l.blob_id = b.id AND l.store = :store"  # noqa: S608 - as above
    f" WHERE b.digest = :digest AND l.state IN {_READABLE} ORDER BY {_ORDER}"
)
_PUT = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state, verified_at)"
    " VALUES (:blob, :store, :key, :size, :signature, 'current', :verified_at)"
    " ON CONFLICT (store, key) DO UPDATE SET size = excluded.size, signature = excluded.signature,"
    " state = 'current', claim_token = NULL, claim_deadline = NULL, verified_at = excluded.verified_at"
)
_ADOPT = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state)"
    " VALUES (:blob, :store, :key, :size, :signature, 'current') ON CONFLICT (store, key) DO NOTHING"
)
_SET_SIGNATURE = Statement("UPDATE blob_location SET signature = :signature WHERE store = :store AND key = :key")
_CLAIM = Statement(
    "UPDATE blob_location SET state = 'deleting', claim_token = :token, claim_deadline = :deadline"
    " WHERE store = :store AND key = :key AND migration IS NULL AND (state = 'current' OR claim_deadline < :now)"
)
_CLAIM_EXPIRED = Statement(
    "UPDATE blob_location SET claim_token = :token, claim_deadline = :deadline"
    " WHERE store = :store AND key = :key AND migration IS NULL AND state = 'deleting' AND claim_deadline < :now"
)
_CLAIM_ORPHAN = Statement(
    "UPDATE blob_location SET state = 'deleting', claim_token = :token, claim_deadline = :deadline"
    " WHERE store = :store AND key = :key AND migration IS NULL AND (state = 'current' OR claim_deadline < :now)"
    " AND NOT EXISTS"
    " (SELECT 1 FROM membership m WHERE m.blob_id = blob_location.blob_id AND m.repository_id = :repository)"
)
_REMOVE = Statement("DELETE FROM blob_location WHERE store = :store AND key = :key AND claim_token = :token")
_FORGET_BELOW = Statement("DELETE FROM blob_location WHERE store = :store AND key >= :low AND key < :high")
_FORGET = Statement("DELETE FROM blob_location WHERE store = :store AND key = :key")
_KEYS_BELOW = Statement("SELECT key FROM blob_location WHERE store = :store AND key >= :low AND key < :high")
_EXPIRED_CLAIMS = Statement(
    f"SELECT {COLUMNS} FROM blob_location l WHERE l.store = :store"  # noqa: S608 - constant columns
    " AND l.state = 'deleting' AND l.claim_deadline < :now LIMIT 1000"
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


def blob_at(connection: Transaction, digest: str, *, store: str, key: str) -> Later[Found]:
    """The blob with this digest, and what is noted of ``key``."""
    return connection.execute(_BLOB_AT, {"digest": digest, "store": store, "key": key}).later(_pair)


def lock_blob_at(connection: Transaction, digest: str, *, store: str, key: str) -> Later[Found]:
    """As ``blob_at``, and the blob is locked as by ``blobs.lock``, before anything that is sent after this.

    If this had to wait, the location is as it was before: a transaction that claimed it has raised the blob's
    generation.
    """
    return connection.execute(_LOCK_BLOB_AT, {"digest": digest, "store": store, "key": key}).later(_pair)


def held_at(connection: Transaction, repository_id: int, digest: str, *, store: str, key: str) -> Later[Found]:
    """The blob if the repository has it (I4), and what is noted of ``key``."""
    values = {"repository": repository_id, "digest": digest, "store": store, "key": key}
    return connection.execute(_HELD_AT, values).later(_pair)


def held(connection: Transaction, repository_id: int, digest: str, *, store: str) -> Later[Found]:
    """The blob if the repository has it (I4), and the best of its locations, as ``of_blob`` orders them."""
    return connection.execute(_HELD, {"repository": repository_id, "digest": digest, "store": store}).later(_pair)


def find(connection: Transaction, store: str, key: str) -> Later[LocationRow | None]:
    """What is noted of this key, or None."""
    return connection.execute(_FIND, {"store": store, "key": key}).first_as(LocationRow)


def of_blob(connection: Transaction, blob_id: int, *, store: str) -> Later[list[LocationRow]]:
    """Every location of a blob that may be read, the best one first: verified ones, and among these our own."""
    return connection.execute(_OF_BLOB, {"blob": blob_id, "store": store}).all_as(LocationRow)


def of_digest(connection: Transaction, digest: str, *, store: str) -> Later[list[LocationRow]]:
    """As ``of_blob``, by digest."""
    return connection.execute(_OF_DIGEST, {"digest": digest, "store": store}).all_as(LocationRow)


def current_of_blob(connection: Transaction, blob_id: int, store: str) -> Later[list[LocationRow]]:
    """Every current location of a blob in this store, the oldest first."""
    return connection.execute(_CURRENT_OF_BLOB, {"blob": blob_id, "store": store}).all_as(LocationRow)


def known(connection: Transaction, digests: Sequence[str], *, store: str) -> Later[dict[str, int]]:
    """The ids of the blobs among ``digests``, at most BATCH, with a location that may be read."""
    return connection.execute(_KNOWN, {"digests": digests, "store": store}).later(lambda rows: dict(rows.all()))


def keys_below(connection: Transaction, store: str, prefix: str) -> Later[list[str]]:
    """The noted keys below the directory ``prefix``."""
    values = {"store": store, "low": f"{prefix}/", "high": f"{prefix}0"}  # "0" is the character after "/"
    return connection.execute(_KEYS_BELOW, values).all_as(str)


def expired_claims(connection: Transaction, store: str, *, now: float) -> Later[list[LocationRow]]:
    """Deletions that were not finished in time, at most 1,000."""
    return connection.execute(_EXPIRED_CLAIMS, {"store": store, "now": now}).all_as(LocationRow)


def put(
    connection: Transaction, blob_id: int, *, store: str, key: str, size: int, signature: str, verified_at: float | None
) -> None:
    """Note that the bytes are at ``key`` now."""
    values = {"blob": blob_id, "store": store, "key": key, "size": size, "signature": signature}
    connection.execute(_PUT, {**values, "verified_at": verified_at})


def adopt(connection: Transaction, blob_id: int, *, store: str, key: str, size: int, signature: str) -> None:
    """Note bytes that were found at ``key`` and not hashed; an existing note is left as it is."""
    values = {"blob": blob_id, "store": store, "key": key, "size": size, "signature": signature}
    connection.execute(_ADOPT, values)


def set_signature(connection: Transaction, *, store: str, key: str, signature: str) -> None:
    """Note that the object at ``key`` was replaced by one with the same bytes."""
    connection.execute(_SET_SIGNATURE, {"store": store, "key": key, "signature": signature})


def set_verified(connection: Transaction, location_id: int, *, was: str, signature: str, now: float) -> None:
    """Note that the object was hashed at ``signature`` and is right, unless the row says another than ``was`` now."""
    connection.execute(_SET_VERIFIED, {"id": location_id, "was": was, "signature": signature, "now": now})


def set_lost(connection: Transaction, location_id: int, *, signature: str) -> bool:
    """Never read a location again at this signature. False if it has another one by now, or is not read anyway."""
    return bool(connection.execute(_SET_LOST, {"id": location_id, "signature": signature}).rowcount)


def claim(
    connection: Transaction, blob_id: int, *, store: str, key: str, token: str, now: float, deadline: float
) -> bool:
    """Take the right to delete the object at ``key`` until ``deadline``. False if another has it, or it is gone."""
    values = {"store": store, "key": key, "token": token, "now": now, "deadline": deadline}
    return _claim(connection, _CLAIM, blob_id, values)


def claim_expired(
    connection: Transaction, location: LocationRow, *, store: str, token: str, now: float, deadline: float
) -> bool:
    """Take over a deletion whose claim has run out, unless the bytes were published there again."""
    values = {"store": store, "key": location.key, "token": token, "now": now, "deadline": deadline}
    return _claim(connection, _CLAIM_EXPIRED, location.blob_id, values)


def claim_orphan(
    connection: Transaction,
    repository_id: int,
    blob_id: int,
    *,
    store: str,
    key: str,
    token: str,
    now: float,
    deadline: float,
) -> bool:
    """As ``claim``, but only while the repository does not have the blob."""
    values = {"repository": repository_id, "store": store, "key": key, "token": token, "now": now, "deadline": deadline}
    return _claim(connection, _CLAIM_ORPHAN, blob_id, values)


def remove(connection: Transaction, *, store: str, key: str, token: str) -> None:
    """Forget a location whose object its claimer has deleted."""
    connection.execute(_REMOVE, {"store": store, "key": key, "token": token})


def forget(connection: Transaction, *, store: str, key: str) -> None:
    """Forget a location whose object was found to be gone."""
    connection.execute(_FORGET, {"store": store, "key": key})


def forget_below(connection: Transaction, store: str, prefix: str) -> None:
    """Forget every location below the directory ``prefix``."""
    connection.execute(_FORGET_BELOW, {"store": store, "low": f"{prefix}/", "high": f"{prefix}0"})


def _claim(connection: Transaction, statement: Statement, blob_id: int, values: dict[str, object]) -> bool:
    connection.execute(_LOCK_BLOB, {"id": blob_id})
    if not connection.execute(statement, values).rowcount:
        return False
    connection.execute(_RAISE_GENERATION, {"id": blob_id})
    return True


def _pair(rows: Rows) -> Found:
    row = rows.first()
    if row is None:
        return None, None
    width = len(BlobRow._fields)
    return BlobRow(*row[:width]), None if row[width] is None else LocationRow(*row[width:])
