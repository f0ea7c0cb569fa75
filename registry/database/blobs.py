"""Rows of blobs, of where their bytes are, and of the repositories that have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Rows, Transaction

PRESENT = "present"
MISSING = "missing"
QUARANTINED = "quarantined"
CLAIMED = "claimed"

CURRENT = "current"
DELETING = "deleting"

BATCH = 500
"""Digests in one IN list at most (PostgreSQL and SQLite both bound the parameters of a statement)."""


class BlobRow(NamedTuple):
    """A blob, whatever repositories have it."""

    id: int
    digest: str
    size: int
    state: str
    generation: int
    """Raised by each claim of a deleter: a publisher whose generation moved does its step again."""
    claim_deadline: float | None
    leased_until: float


class LocationRow(NamedTuple):
    """One place with the bytes of a blob."""

    id: int
    blob_id: int
    key: str
    size: int
    state: str
    claim_token: str | None
    claim_deadline: float | None
    verified_at: float | None
    signature: str
    """The etag of the object when it was last known to be right."""


Found = tuple[BlobRow | None, LocationRow | None]
"""A blob and a place of its bytes, as far as there are any."""


class HeldRow(NamedTuple):
    """A blob as a member of one repository, with what is noted of its bytes there."""

    id: int
    digest: str
    size: int
    state: str
    leased_until: float
    location_id: int | None
    location_state: str | None
    verified_at: float | None
    """None if these bytes were not hashed yet."""
    key: str | None
    """The key of the object."""
    signature: str | None
    """As in LocationRow."""


_BLOB = "id, digest, size, state, generation, claim_deadline, leased_until"
_LOCATION = "id, blob_id, key, size, state, claim_token, claim_deadline, verified_at, signature"
_FIND = Statement(f"SELECT {_BLOB} FROM blob WHERE digest = :digest")  # noqa: S608 - constant columns
_WITH_PLACE = (
    "SELECT b.id, b.digest, b.size, b.state, b.generation, b.claim_deadline, b.leased_until,"
    " l.id, l.blob_id, l.key, l.size, l.state, l.claim_token, l.claim_deadline, l.verified_at, l.signature"
    " FROM blob b LEFT JOIN blob_location l ON l.store = :store AND l.key = :key WHERE b.digest = :digest"
)
_AT = Statement(_WITH_PLACE)
_LOCK_AT = Statement(_WITH_PLACE, locking="b")
_LOCK = Statement(f"SELECT {_BLOB} FROM blob WHERE digest = :digest", locking="blob")  # noqa: S608 - constant columns
_LOCK_ID = Statement("SELECT id FROM blob WHERE id = :id", locking="blob")
_PUT = Statement(
    "INSERT INTO blob (algorithm, digest, size, state, generation, leased_until)"
    " VALUES (:algorithm, :digest, :size, 'present', 0, :leased_until)"
    " ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = 'present',"
    " leased_until = CASE WHEN blob.leased_until > excluded.leased_until THEN blob.leased_until"
    " ELSE excluded.leased_until END RETURNING id"
)
_LEASE = Statement(
    "UPDATE blob SET leased_until = :until WHERE id = :id AND leased_until < :until AND state <> 'claimed'"
)
_SET_STATE = Statement("UPDATE blob SET state = :state WHERE id = :id")
_RAISE_GENERATION = Statement("UPDATE blob SET generation = generation + 1 WHERE id = :id")
_LOCATION_AT = Statement(f"SELECT {_LOCATION} FROM blob_location WHERE store = :store AND key = :key")  # noqa: S608
_LOCATIONS = Statement(
    f"SELECT {_LOCATION} FROM blob_location WHERE blob_id = :blob AND store = :store AND state = 'current' ORDER BY id"  # noqa: S608
)
_PUT_LOCATION = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state, verified_at)"
    " VALUES (:blob, :store, :key, :size, :signature, 'current', :verified_at)"
    " ON CONFLICT (store, key) DO UPDATE SET size = excluded.size, signature = excluded.signature,"
    " state = 'current', claim_token = NULL, claim_deadline = NULL, verified_at = excluded.verified_at"
)
_ADOPT_LOCATION = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state)"
    " VALUES (:blob, :store, :key, :size, :signature, 'current') ON CONFLICT (store, key) DO NOTHING"
)
_SET_SIGNATURE = Statement("UPDATE blob_location SET signature = :signature WHERE store = :store AND key = :key")
_CLAIM_LOCATION = Statement(
    "UPDATE blob_location SET state = 'deleting', claim_token = :token, claim_deadline = :deadline"
    " WHERE store = :store AND key = :key AND migration IS NULL AND (state = 'current' OR claim_deadline < :now)"
)
_CLAIM_EXPIRED = Statement(
    "UPDATE blob_location SET claim_token = :token, claim_deadline = :deadline"
    " WHERE store = :store AND key = :key AND migration IS NULL AND state = 'deleting' AND claim_deadline < :now"
)
_REMOVE_LOCATION = Statement("DELETE FROM blob_location WHERE store = :store AND key = :key AND claim_token = :token")
_FORGET_BELOW = Statement("DELETE FROM blob_location WHERE store = :store AND key >= :low AND key < :high")
_FORGET_LOCATION = Statement("DELETE FROM blob_location WHERE store = :store AND key = :key")
_SET_VERIFIED = Statement("UPDATE blob_location SET verified_at = :now WHERE id = :id")
_EXPIRED_CLAIMS = Statement(
    f"SELECT {_LOCATION} FROM blob_location WHERE store = :store"  # noqa: S608
    " AND state = 'deleting' AND claim_deadline < :now LIMIT 1000"
)
_HELD = Statement(
    "SELECT b.id, b.digest, b.size, b.state, b.leased_until, l.id, l.state, l.verified_at,"
    " l.key, l.signature FROM membership m"
    " JOIN blob b ON b.id = m.blob_id LEFT JOIN blob_location l ON l.store = :store AND l.key = :key"
    " WHERE b.digest = :digest AND m.repository_id = :repository"
)
_KEYS = Statement("SELECT key FROM blob_location WHERE store = :store AND key >= :low AND key < :high")
_ADOPT = Statement(
    "INSERT INTO blob (algorithm, digest, size, state, generation, leased_until)"
    " VALUES (:algorithm, :digest, :size, 'present', 0, 0) ON CONFLICT (digest) DO NOTHING"
)
_CLAIM_ORPHAN = Statement(
    "UPDATE blob_location SET state = 'deleting', claim_token = :token, claim_deadline = :deadline"
    " WHERE store = :store AND key = :key AND migration IS NULL AND (state = 'current' OR claim_deadline < :now)"
    " AND NOT EXISTS"
    " (SELECT 1 FROM membership m WHERE m.blob_id = blob_location.blob_id AND m.repository_id = :repository)"
)


def held(connection: Transaction, repository_id: int, digest: str, *, store: str, key: str) -> Later[HeldRow | None]:
    """The blob if the repository has it (I4), with what is noted of its bytes at ``key``; or None."""
    values = {"repository": repository_id, "digest": digest, "store": store, "key": key}
    return connection.execute(_HELD, values).first_as(HeldRow)


def keys_below(connection: Transaction, store: str, prefix: str) -> Later[list[str]]:
    """The noted keys below the directory ``prefix``."""
    values = {"store": store, "low": f"{prefix}/", "high": f"{prefix}0"}  # "0" is the character after "/"
    return connection.execute(_KEYS, values).all_as(str)


def adopt(connection: Transaction, digest: str, *, size: int) -> BlobRow:
    """The row of a blob that was found on storage; an existing one is left as it is."""
    connection.execute(_ADOPT, {"algorithm": digest.partition(":")[0], "digest": digest, "size": size})
    row = find(connection, digest).get()
    assert row is not None  # noqa: S101 - this transaction has just made sure of it
    return row


def at(connection: Transaction, digest: str, *, store: str, key: str) -> Later[Found]:
    """The blob with this digest and what is noted of its own place ``key``."""
    return connection.execute(_AT, {"digest": digest, "store": store, "key": key}).later(_with_place)


def lock_at(connection: Transaction, digest: str, *, store: str, key: str) -> Later[Found]:
    """As ``at``, and the blob is locked as by ``lock``, before anything that is sent after this.

    If this had to wait, the location is as it was before: the deleter that claimed it has raised the generation.
    """
    return connection.execute(_LOCK_AT, {"digest": digest, "store": store, "key": key}).later(_with_place)


def find(connection: Transaction, digest: str) -> Later[BlobRow | None]:
    """The blob with this digest, or None."""
    return connection.execute(_FIND, {"digest": digest}).first_as(BlobRow)


def lock(connection: Transaction, digest: str) -> Later[BlobRow | None]:
    """As ``find``, and until this transaction ends no other publishes or claims the blob.

    A blob is locked after repositories and before its locations, so that two never wait for each other.
    """
    return connection.execute(_LOCK, {"digest": digest}).first_as(BlobRow)


def put(connection: Transaction, digest: str, *, size: int, leased_until: float) -> Later[int]:
    """Make the row of a blob whose bytes are present, or heal it; its lease never gets shorter. Returns its id."""
    values = {"algorithm": digest.partition(":")[0], "digest": digest, "size": size, "leased_until": leased_until}
    return connection.execute(_PUT, values).one_as(int)


def lease(connection: Transaction, blob_id: int, *, until: float) -> None:
    """Protect a blob from collection until then; never shortens a lease, never revives a claimed blob (I7)."""
    connection.execute(_LEASE, {"id": blob_id, "until": until})


def set_state(connection: Transaction, blob_id: int, state: str) -> None:
    """PRESENT, MISSING or QUARANTINED."""
    connection.execute(_SET_STATE, {"id": blob_id, "state": state})


def location_at(connection: Transaction, store: str, key: str) -> Later[LocationRow | None]:
    """What is noted of this key, or None."""
    return connection.execute(_LOCATION_AT, {"store": store, "key": key}).first_as(LocationRow)


def locations(connection: Transaction, blob_id: int, store: str) -> Later[list[LocationRow]]:
    """Every current place with the bytes of a blob in this store, the oldest first."""
    return connection.execute(_LOCATIONS, {"blob": blob_id, "store": store}).all_as(LocationRow)


def put_location(
    connection: Transaction, blob_id: int, *, store: str, key: str, size: int, signature: str, verified_at: float | None
) -> None:
    """Note that the bytes are at ``key`` now."""
    values = {"blob": blob_id, "store": store, "key": key, "size": size, "signature": signature}
    connection.execute(_PUT_LOCATION, {**values, "verified_at": verified_at})


def adopt_location(connection: Transaction, blob_id: int, *, store: str, key: str, size: int, signature: str) -> None:
    """Note unverified bytes that were found at ``key``; an existing note is left as it is."""
    values = {"blob": blob_id, "store": store, "key": key, "size": size, "signature": signature}
    connection.execute(_ADOPT_LOCATION, values)


def claim_location(
    connection: Transaction, blob_id: int, *, store: str, key: str, token: str, now: float, deadline: float
) -> bool:
    """Take the right to delete the object at ``key`` until ``deadline``. False: another has it, or it is gone."""
    values = {"store": store, "key": key, "token": token, "now": now, "deadline": deadline}
    connection.execute(_LOCK_ID, {"id": blob_id})
    if not connection.execute(_CLAIM_LOCATION, values).rowcount:
        return False
    connection.execute(_RAISE_GENERATION, {"id": blob_id})
    return True


def claim_expired(
    connection: Transaction, place: LocationRow, *, store: str, token: str, now: float, deadline: float
) -> bool:
    """Take over a deletion whose claim has run out, unless a publisher has put the bytes again."""
    values = {"store": store, "key": place.key, "token": token, "now": now, "deadline": deadline}
    connection.execute(_LOCK_ID, {"id": place.blob_id})
    if not connection.execute(_CLAIM_EXPIRED, values).rowcount:
        return False
    connection.execute(_RAISE_GENERATION, {"id": place.blob_id})
    return True


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
    """As ``claim_location``, but only while the repository does not have the blob."""
    values = {"repository": repository_id, "store": store, "key": key, "token": token, "now": now, "deadline": deadline}
    connection.execute(_LOCK_ID, {"id": blob_id})
    if not connection.execute(_CLAIM_ORPHAN, values).rowcount:
        return False
    connection.execute(_RAISE_GENERATION, {"id": blob_id})
    return True


def remove_location(connection: Transaction, *, store: str, key: str, token: str) -> None:
    """Forget a place whose object its claimer has deleted."""
    connection.execute(_REMOVE_LOCATION, {"store": store, "key": key, "token": token})


def set_signature(connection: Transaction, *, store: str, key: str, signature: str) -> None:
    """Note that the object at ``key`` was replaced by one with the same bytes."""
    connection.execute(_SET_SIGNATURE, {"store": store, "key": key, "signature": signature})


def forget_below(connection: Transaction, store: str, prefix: str) -> None:
    """Forget every place below the directory ``prefix``."""
    connection.execute(_FORGET_BELOW, {"store": store, "low": f"{prefix}/", "high": f"{prefix}0"})


def forget_location(connection: Transaction, *, store: str, key: str) -> None:
    """Forget a place whose object was found to be gone."""
    connection.execute(_FORGET_LOCATION, {"store": store, "key": key})


def set_verified(connection: Transaction, location_id: int, *, now: float) -> None:
    """Note that these bytes were hashed and are right."""
    connection.execute(_SET_VERIFIED, {"id": location_id, "now": now})


def expired_claims(connection: Transaction, store: str, *, now: float) -> Later[list[LocationRow]]:
    """Deletions that their claimer did not finish in time, at most 1,000."""
    return connection.execute(_EXPIRED_CLAIMS, {"store": store, "now": now}).all_as(LocationRow)


def _with_place(rows: Rows) -> Found:
    row = rows.first()
    if row is None:
        return None, None
    count = len(BlobRow._fields)
    return BlobRow(*row[:count]), LocationRow(*row[count:]) if row[count] is not None else None
