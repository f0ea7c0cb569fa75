"""Blobs: their rows and queries.

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.database.transaction import Later, Transaction

PRESENT = "present"
MISSING = "missing"
QUARANTINED = "quarantined"
CLAIMED = "claimed"
"""An object that no row knew, and that a deleter has claimed."""
GONE = "gone"
"""A tombstone: its object was deleted. It keeps the generation."""


class PutBlob(NamedTuple):
    """The row of a blob that was put."""

    id: int
    generation: int
    """As it is by now: a deleter may have made the row a moment ago."""


class BlobRow(NamedTuple):
    """A blob, whatever repositories have it."""

    id: int
    digest: str
    size: int
    state: str
    generation: int
    """Raised by each claim of a deleter: a publisher whose generation moved does its step again."""
    lease_left: float
    """Seconds, by the database's clock, for which it is safe from collection; 0 or less: it is not."""


def _own_lease_left(table: str) -> str:
    """Seconds that the lease of a row still runs; the whole lease from the start of the machine, where that was since.

    The time for which the machine was off is not known.
    """
    return (
        f"CASE WHEN {table}.lease_clock = clock_name() THEN {table}.lease_until - clock_now()"
        f" WHEN {table}.lease_clock IS NULL THEN 0 ELSE {table}.lease_seconds - clock_now() END"
    )


LEASE_LEFT = f"greatest(b.leased_until - wall_now(), {_own_lease_left('b')})"
"""The column ``lease_left`` of a blob ``b`` (see BlobRow). A former release has written ``leased_until`` alone."""
COLUMNS = f"b.id, b.digest, b.size, b.state, b.generation, {LEASE_LEFT}"
_LONGER = f"{_own_lease_left('blob')} > excluded.lease_seconds"
_FIND = Statement(f"SELECT {COLUMNS} FROM blob b WHERE b.digest = :digest")  # noqa: S608 - constant columns
_FIND_ALL = Statement(f"SELECT {COLUMNS} FROM blob b WHERE b.digest IN :digests", expanding="digests")  # noqa: S608
_LOCK = Statement(f"SELECT {COLUMNS} FROM blob b WHERE b.digest = :digest", locking="b")  # noqa: S608 - constant columns
_LOCK_ALL = Statement(
    f"SELECT {COLUMNS} FROM blob b WHERE b.digest IN :digests ORDER BY b.digest",  # noqa: S608 - constant columns
    expanding="digests",
    locking="b",
)
_PUT = Statement(
    "INSERT INTO blob"  # noqa: S608 - constant columns
    " (algorithm, digest, size, state, generation, leased_until, lease_clock, lease_until, lease_seconds)"
    " VALUES (:algorithm, :digest, :size, 'present', 0,"
    " wall_now() + :seconds, clock_name(), clock_now() + :seconds, :seconds)"
    " ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = 'present',"
    " leased_until = greatest(blob.leased_until, excluded.leased_until),"
    f" lease_clock = CASE WHEN {_LONGER} THEN blob.lease_clock ELSE excluded.lease_clock END,"
    f" lease_until = CASE WHEN {_LONGER} THEN blob.lease_until ELSE excluded.lease_until END,"
    f" lease_seconds = CASE WHEN {_LONGER} THEN blob.lease_seconds ELSE excluded.lease_seconds END"
    " RETURNING id, generation",
    reads_clocks_first=True,
)
_SET_LEASE = (
    "UPDATE blob SET leased_until = greatest(leased_until, wall_now() + :seconds), lease_clock = clock_name(),"  # noqa: S608 - as above
    " lease_until = clock_now() + :seconds, lease_seconds = :seconds"
    f" WHERE state <> 'claimed' AND {_own_lease_left('blob')} < :seconds"
)
_LEASE = Statement(f"{_SET_LEASE} AND id = :id")
_LEASE_ALL = Statement(f"{_SET_LEASE} AND digest IN :digests", expanding="digests")
_CLAIM_NEW = Statement(
    "INSERT INTO blob (algorithm, digest, size, state, generation, claim_token, claim_deadline, leased_until)"
    " VALUES (:algorithm, :digest, :size, 'claimed', 1, :token, wall_now() + :seconds, 0)"
    " ON CONFLICT (digest) DO NOTHING RETURNING id"
)
_IS_STALE = (
    "b.state = 'gone' AND (b.gone_clock <> clock_name() OR b.gone_at < clock_now() - :seconds)"
    " AND NOT EXISTS (SELECT 1 FROM blob_location l WHERE l.blob_id = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM membership m WHERE m.blob_id = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM manifest m WHERE m.blob_id = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM trash_manifest t WHERE t.blob_id = b.id)"
)
_STALE = Statement(f"SELECT b.id FROM blob b WHERE {_IS_STALE} LIMIT :count")  # noqa: S608 - constant
_STALE_AGAIN = Statement(
    f"SELECT b.id FROM blob b WHERE b.id IN :blobs AND {_IS_STALE} FOR UPDATE OF b SKIP LOCKED",  # noqa: S608 - constant
    expanding="blobs",
    sqlite=(" FOR UPDATE OF b SKIP LOCKED", ""),
)
_PRUNE = Statement("DELETE FROM blob WHERE id = :id")
_SET_STATE = Statement("UPDATE blob SET state = :state WHERE id = :id")
_ADOPT = Statement(
    "INSERT INTO blob (algorithm, digest, size, state, generation, leased_until)"
    " VALUES (:algorithm, :digest, :size, 'present', 0, 0) ON CONFLICT (digest) DO NOTHING"
)


def adopt(connection: Transaction, digest: str, *, size: int) -> BlobRow:
    """The row of a blob that was found on storage; an existing one is left as it is."""
    return adopt_all(connection, {digest: size}).get()[digest]


def adopt_all(connection: Transaction, sizes: Mapping[str, int]) -> Later[dict[str, BlobRow]]:
    """As ``adopt``, for at most BATCH blobs: their rows by digest, perhaps with other sizes."""
    rows = [{"algorithm": digest.partition(":")[0], "digest": digest, "size": size} for digest, size in sizes.items()]
    connection.execute_many(_ADOPT, rows)
    return find_all(connection, list(sizes))


def find(connection: Transaction, digest: str) -> Later[BlobRow | None]:
    """The blob with this digest, or None."""
    return connection.execute(_FIND, {"digest": digest}).first_as(BlobRow)


def find_all(connection: Transaction, digests: Sequence[str]) -> Later[dict[str, BlobRow]]:
    """Those of ``digests``, at most BATCH, that are known, by digest."""
    rows = connection.execute(_FIND_ALL, {"digests": digests})
    return rows.later(lambda rows: {row[1]: BlobRow(*row) for row in rows})


def lock(connection: Transaction, digest: str) -> Later[BlobRow | None]:
    """As ``find``, and until this transaction ends no other publishes or claims the blob.

    A blob is locked after repositories and before its locations, so that two never wait for each other.
    """
    return connection.execute(_LOCK, {"digest": digest}).first_as(BlobRow)


def lock_all(connection: Transaction, digests: Sequence[str]) -> Later[dict[str, BlobRow]]:
    """As ``find_all``, each row locked as by ``lock``, in the order of their digests."""
    rows = connection.execute(_LOCK_ALL, {"digests": digests})
    return rows.later(lambda rows: {row[1]: BlobRow(*row) for row in rows})


def put(connection: Transaction, digest: str, *, size: int, lease: float) -> Later[PutBlob]:
    """Make the row of a blob whose bytes are present, or heal it; its lease never gets shorter.

    ``lease`` is in seconds from now.
    """
    values = {"algorithm": digest.partition(":")[0], "digest": str(digest), "size": size, "seconds": float(lease)}
    return connection.execute(_PUT, values).one_as(PutBlob)


def lease(connection: Transaction, blob_id: int, *, seconds: float) -> None:
    """Protect a blob from collection for so long; never shortens a lease, never revives a claimed blob (I7)."""
    connection.execute(_LEASE, {"id": blob_id, "seconds": float(seconds)})


def lease_all(connection: Transaction, digests: Sequence[str], *, seconds: float) -> None:
    """As ``lease``, at most BATCH blobs."""
    connection.execute(_LEASE_ALL, {"digests": digests, "seconds": float(seconds)})


def claim_new(connection: Transaction, digest: str, *, size: int, token: str, seconds: float) -> Later[int | None]:
    """Make the row of an orphan that is to be deleted; its id. None if there is a row: then it is no orphan.

    ``seconds`` are those for which former releases wait.
    """
    values = {"algorithm": digest.partition(":")[0], "digest": str(digest), "size": size}
    return connection.execute(_CLAIM_NEW, {**values, "token": token, "seconds": seconds}).first_as(int)


def stale(connection: Transaction, *, seconds: float, count: int) -> Later[list[int]]:
    """At most ``count`` tombstones that are older. It goes through all of them: no write transaction waits for that."""
    return connection.execute(_STALE, {"seconds": seconds, "count": count}).all_as(int)


def prune(connection: Transaction, blob_ids: Sequence[int], *, seconds: float) -> int:
    """Forget those of these that are tombstones and older. Returns how many.

    One that a publisher has in hand is passed over, and so two at once share them.
    """
    rows = connection.execute(_STALE_AGAIN, {"blobs": blob_ids, "seconds": seconds}).all()
    connection.execute_many(_PRUNE, [{"id": blob_id} for (blob_id,) in rows])
    return len(rows)


def set_state(connection: Transaction, blob_id: int, state: str) -> None:
    """PRESENT, MISSING or QUARANTINED."""
    connection.execute(_SET_STATE, {"id": blob_id, "state": state})
