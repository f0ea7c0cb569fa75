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
"""It was found gone, or with other bytes, at this etag: it is not read."""
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
    etag: str
    """The etag of the object when it was last known to be right."""
    state: str
    verified_at: float | None
    """None if these bytes were not hashed yet."""
    migration: str | None
    """The migration that brought it, or None."""
    claim_token: str | None
    claim_left: float | None
    """Seconds, by the database's clock, for which its claimer may still act; 0 or less: since when it may not."""
    claim_sent: int
    """1 if the delete may have been sent."""


Found = tuple[BlobRow | None, LocationRow | None]
"""A blob and one of its locations, as far as there are any."""


def _claim_left(table: str) -> str:
    """Seconds that a claim still runs. One of another start of the machine has ended with it at the latest.

    A former release writes ``claim_deadline`` alone.
    """
    return (
        f"CASE WHEN {table}.claim_timed = {table}.claim_token THEN"
        f" CASE WHEN {table}.claim_clock = clock_name() THEN {table}.claim_until - clock_now() ELSE -clock_now() END"
        f" WHEN {table}.claim_token IS NOT NULL THEN {table}.claim_deadline - wall_now() END"
    )


def _claim_sent(table: str) -> str:
    """Whether the delete of a claim may have been sent: a former release does not say so."""
    return (
        f"CASE WHEN {table}.claim_token IS NULL THEN 0"
        f" WHEN {table}.claim_timed = {table}.claim_token THEN {table}.claim_sent ELSE 1 END"
    )


COLUMNS = (
    "l.id, l.blob_id, l.key, l.size, l.signature, l.state, l.verified_at, l.migration, l.claim_token,"
    f" {_claim_left('l')}, {_claim_sent('l')}"
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
    " VALUES (:blob, :store, :key, :size, :etag, 'current', :verified_at)"
    " ON CONFLICT (store, key) DO UPDATE SET size = excluded.size, signature = excluded.signature,"
    " state = 'current', claim_token = NULL, claim_deadline = NULL, claim_timed = NULL,"
    " verified_at = excluded.verified_at"
)
_ADOPT = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state)"
    " VALUES (:blob, :store, :key, :size, :etag, 'current') ON CONFLICT (store, key) DO NOTHING"
)
_SET_ETAG = Statement("UPDATE blob_location SET signature = :etag WHERE store = :store AND key = :key")
TAKE = (
    "UPDATE blob_location SET state = 'deleting', claim_token = :token, claim_timed = :token,"
    " claim_clock = clock_name(), claim_until = clock_now() + :seconds, claim_sent = 0,"
    " claim_deadline = wall_now() + :seconds + :margin"
    " WHERE store = :store AND {place} AND migration IS NULL"
)
"""Makes a claim of locations, each of which another condition allows."""
_TAKE_ONE = TAKE.format(place="key = :key")
_OVER = (
    f"state = 'deleting' AND {_claim_left('blob_location')}"
    f" + CASE WHEN {_claim_sent('blob_location')} = 1 THEN :unclear ELSE 0 END <= 0"
)
"""Nothing of the claim can happen any more."""
_CLAIM = Statement(f"{_TAKE_ONE} AND (state = 'current' OR {_OVER}) RETURNING signature")
_CLAIM_EXPIRED = Statement(f"{_TAKE_ONE} AND {_OVER} RETURNING signature")
_CLAIM_UNHELD = Statement(
    f"{_TAKE_ONE} AND (state = 'current' OR {_OVER}) AND NOT EXISTS"  # noqa: S608 - constant columns
    " (SELECT 1 FROM membership m WHERE m.blob_id = blob_location.blob_id AND m.repository_id = :repository)"
    " RETURNING signature"
)
_CLAIM_NEW = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state,"
    " claim_token, claim_timed, claim_clock, claim_until, claim_sent, claim_deadline)"
    " VALUES (:blob, :store, :key, :size, :etag, 'deleting',"
    " :token, :token, clock_name(), clock_now() + :seconds, 0, wall_now() + :seconds + :margin)"
    " ON CONFLICT (store, key) DO NOTHING"
)
_SET_SENT = Statement(
    "UPDATE blob_location SET claim_sent = 1 WHERE store = :store AND key = :key AND claim_token = :token"
    " AND claim_timed = :token AND claim_clock = clock_name() AND claim_until > clock_now()"
)
_END_CLAIM = Statement(
    "UPDATE blob_location SET claim_until = clock_now(), claim_sent = :sent,"
    " claim_deadline = wall_now() + :unclear"
    " WHERE store = :store AND key = :key AND claim_token = :token AND claim_timed = :token"
)
_BURY = Statement(
    "UPDATE blob SET state = 'gone', gone_clock = clock_name(), gone_at = clock_now() WHERE id = :id"
    " AND NOT EXISTS (SELECT 1 FROM blob_location l WHERE l.blob_id = blob.id)"
    " AND NOT EXISTS (SELECT 1 FROM membership m WHERE m.blob_id = blob.id)"
)
_REMOVE = Statement("DELETE FROM blob_location WHERE store = :store AND key = :key AND claim_token = :token")
_FORGET_BELOW = Statement("DELETE FROM blob_location WHERE store = :store AND key >= :low AND key < :high")
_FORGET = Statement("DELETE FROM blob_location WHERE store = :store AND key = :key")
_KEYS_BETWEEN = Statement("SELECT key FROM blob_location WHERE store = :store AND key >= :low AND key <= :high")
_EXPIRED_CLAIMS = Statement(
    f"SELECT {COLUMNS} FROM blob_location l WHERE l.store = :store"  # noqa: S608 - constant columns
    f" AND l.state = 'deleting' AND {_claim_left('l')} <= 0 AND l.key > :after ORDER BY l.key LIMIT 1000"
)
_KNOWN = Statement(
    "SELECT b.digest, b.id FROM blob b WHERE b.digest IN :digests AND EXISTS"  # noqa: S608 - constant columns
    f" (SELECT 1 FROM blob_location l WHERE l.blob_id = b.id AND l.store = :store AND l.state IN {_READABLE})",
    expanding="digests",
)
_SET_VERIFIED = Statement(
    "UPDATE blob_location SET verified_at = :now, signature = :etag WHERE id = :id AND signature = :was"
)
_SET_LOST = Statement(
    "UPDATE blob_location SET state = 'lost', verified_at = NULL"  # noqa: S608 - constant columns
    f" WHERE id = :id AND signature = :etag AND state IN {_READABLE}"
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


def keys_between(connection: Transaction, store: str, first: str, last: str) -> Later[list[str]]:
    """The noted keys from ``first`` to ``last``, both included."""
    return connection.execute(_KEYS_BETWEEN, {"store": store, "low": first, "high": last}).all_as(str)


def expired_claims(connection: Transaction, store: str, *, after: str = "") -> Later[list[LocationRow]]:
    """Deletions that were not finished in time, at most 1,000 by key after ``after``; also those that are unclear."""
    return connection.execute(_EXPIRED_CLAIMS, {"store": store, "after": after}).all_as(LocationRow)


def put(
    connection: Transaction, blob_id: int, *, store: str, key: str, size: int, etag: str, verified_at: float | None
) -> None:
    """Note that the bytes are at ``key`` now."""
    values = {"blob": blob_id, "store": store, "key": key, "size": size, "etag": etag}
    connection.execute(_PUT, {**values, "verified_at": verified_at})


def adopt(connection: Transaction, blob_id: int, *, store: str, key: str, size: int, etag: str) -> None:
    """Note bytes that were found at ``key`` and not hashed; an existing note is left as it is."""
    values = {"blob": blob_id, "store": store, "key": key, "size": size, "etag": etag}
    connection.execute(_ADOPT, values)


def set_etag(connection: Transaction, *, store: str, key: str, etag: str) -> None:
    """Note that the object at ``key`` was replaced by one with the same bytes."""
    connection.execute(_SET_ETAG, {"store": store, "key": key, "etag": etag})


def set_verified(connection: Transaction, location_id: int, *, was: str, etag: str, now: float) -> None:
    """Note that the object was hashed at ``etag`` and is right, unless the row says another than ``was`` now."""
    connection.execute(_SET_VERIFIED, {"id": location_id, "was": was, "etag": etag, "now": now})


def set_lost(connection: Transaction, location_id: int, *, etag: str) -> bool:
    """Never read a location again at this etag. False if it has another one by now, or is not read anyway."""
    return bool(connection.execute(_SET_LOST, {"id": location_id, "etag": etag}).rowcount)


class Claiming(NamedTuple):
    """What a deleter asks for: an object, and for how long it wants to be the only one to act on it."""

    store: str
    key: str
    token: str
    """Its own, which no other claim ever has."""
    seconds: float
    unclear: float
    """Seconds after a claim for which a delete that was sent may still be carried out."""
    margin: float
    """Seconds after its claim for which former releases wait, whose clocks may be wrong."""


def claim(connection: Transaction, blob_id: int, wanted: Claiming) -> str | None:
    """Take the right to delete an object; its etag as noted. None if another has it, or it is gone."""
    return _claim(connection, _CLAIM, blob_id, wanted)


def claim_expired(connection: Transaction, blob_id: int, wanted: Claiming) -> str | None:
    """Take over a deletion of which nothing can happen any more, unless the bytes were published there again."""
    return _claim(connection, _CLAIM_EXPIRED, blob_id, wanted)


def claim_new(connection: Transaction, blob_id: int, wanted: Claiming, *, size: int, etag: str) -> bool:
    """As ``claim``, of an object that is not noted. False if it is."""
    values = {**wanted._asdict(), "blob": blob_id, "size": size, "etag": etag}
    return bool(connection.execute(_CLAIM_NEW, values).rowcount)


def claim_unheld(connection: Transaction, repository_id: int, blob_id: int, wanted: Claiming) -> str | None:
    """As ``claim``, but only while the repository does not have the blob."""
    return _claim(connection, _CLAIM_UNHELD, blob_id, wanted, repository=repository_id)


def set_sent(connection: Transaction, *, store: str, key: str, token: str) -> bool:
    """Say that the delete is sent from now on. False if the claim is over, or another's."""
    return bool(connection.execute(_SET_SENT, {"store": store, "key": key, "token": token}).rowcount)


def end_claim(connection: Transaction, *, store: str, key: str, token: str, unclear: float | None) -> None:
    """End a claim before its time: its delete was not carried out and will not be, or is ``unclear`` for so long."""
    values = {"store": store, "key": key, "token": token, "sent": int(unclear is not None), "unclear": unclear or 0.0}
    connection.execute(_END_CLAIM, values)


def remove(connection: Transaction, blob_id: int, *, store: str, key: str, token: str) -> bool:
    """Forget a location whose object its claimer has deleted. False if it is claimed by another, or noted again.

    A blob that has no other location, and no repository, is gone then: its row stays as a tombstone.
    """
    connection.execute(_LOCK_BLOB, {"id": blob_id})
    if not connection.execute(_REMOVE, {"store": store, "key": key, "token": token}).rowcount:
        return False
    connection.execute(_BURY, {"id": blob_id})
    return True


def forget(connection: Transaction, *, store: str, key: str) -> None:
    """Forget a location whose object was found to be gone."""
    connection.execute(_FORGET, {"store": store, "key": key})


def forget_below(connection: Transaction, store: str, prefix: str) -> None:
    """Forget every location below the directory ``prefix``."""
    values = {"store": store, "low": f"{prefix}/", "high": f"{prefix}0"}  # "0" is the character after "/"
    connection.execute(_FORGET_BELOW, values)


def _claim(connection: Transaction, statement: Statement, blob_id: int, wanted: Claiming, **more: object) -> str | None:
    connection.execute(_LOCK_BLOB, {"id": blob_id})
    found = connection.execute(statement, {**wanted._asdict(), **more}).first()
    if found is None:
        return None
    connection.execute(_RAISE_GENERATION, {"id": blob_id})
    etag: str = found[0]
    return etag


def _pair(rows: Rows) -> Found:
    row = rows.first()
    if row is None:
        return None, None
    width = len(BlobRow._fields)
    return BlobRow(*row[:width]), None if row[width] is None else LocationRow(*row[width:])
