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


COLUMNS = "b.id, b.digest, b.size, b.state, b.generation, b.claim_deadline, b.leased_until"
_FIND = Statement(f"SELECT {COLUMNS} FROM blob b WHERE b.digest = :digest")  # noqa: S608 - constant columns
_FIND_ALL = Statement(f"SELECT {COLUMNS} FROM blob b WHERE b.digest IN :digests", expanding="digests")  # noqa: S608
_LOCK = Statement(f"SELECT {COLUMNS} FROM blob b WHERE b.digest = :digest", locking="b")  # noqa: S608 - constant columns
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
