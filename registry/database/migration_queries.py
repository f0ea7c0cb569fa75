"""Migration queries: what a migration reads and writes about source locations and the content of repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import blobs, repositories
from registry.database.blob_locations import COLUMNS, LOST, ORIGINAL, LocationRow
from registry.database.blobs import COLUMNS as BLOB
from registry.database.blobs import MISSING, QUARANTINED, BlobRow
from registry.database.statement import Statement, batches
from registry.database.transaction import Later

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.transaction import Transaction


_NEEDING = Statement(
    "SELECT r.name FROM repository r JOIN membership m ON m.repository_id = r.id WHERE m.blob_id = :blob AND"
    " (EXISTS (SELECT 1 FROM reference f WHERE f.repository_id = r.id AND f.digest = :digest)"
    " OR EXISTS (SELECT 1 FROM manifest f WHERE f.repository_id = r.id AND f.blob_id = m.blob_id))"
    " ORDER BY r.name LIMIT 1"
)
# Nearly every location is in one store, so that the store is no way to find it: an expression keeps a database from
# trying.
_LOST = Statement(
    f"SELECT {COLUMNS} FROM membership m"  # noqa: S608 - constant columns
    " JOIN blob_location l ON l.blob_id = m.blob_id AND l.store || '' = :store"
    " WHERE m.repository_id = :repository AND l.state = 'lost' ORDER BY l.key"
)


def lost(connection: Transaction, repository_id: int, *, store: str) -> Later[list[LocationRow]]:
    """The locations of a repository's blobs that are not read any more, by key."""
    return connection.execute(_LOST, {"repository": repository_id, "store": store}).all_as(LocationRow)


def needing(connection: Transaction, blob_id: int, digest: str) -> Later[str | None]:
    """The first repository that has the blob as a manifest, or in a manifest that names it; None if none needs it."""
    return connection.execute(_NEEDING, {"blob": blob_id, "digest": digest}).first_as(str)


class SourceObject(NamedTuple):
    """An object of the source with the bytes of a blob."""

    digest: str
    size: int
    """Bytes."""
    key: str
    etag: str
    verified: bool
    """It was hashed at this etag."""


class Copied(NamedTuple):
    """Our object with the bytes of a blob, read and hashed after it was written."""

    digest: str
    size: int
    """Bytes."""
    key: str
    etag: str


_NOTED = Statement(
    f"SELECT {COLUMNS} FROM blob_location l WHERE l.store = :store AND l.key IN :keys",  # noqa: S608 - constant columns
    expanding="keys",
)
_PUT = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state, verified_at, migration)"
    " VALUES (:blob, :store, :key, :size, :etag, 'original', :verified_at, :migration)"
    " ON CONFLICT (store, key) DO UPDATE SET blob_id = excluded.blob_id, size = excluded.size,"
    " signature = excluded.signature, state = 'original', claim_token = NULL, claim_deadline = NULL,"
    " claim_timed = NULL,"
    " verified_at = excluded.verified_at, migration = excluded.migration"
)
_COPIES_AGAIN = Statement(
    "UPDATE blob_location SET state = 'current' WHERE blob_id = :blob AND store = :store AND state = 'copy'"
)
_SET_PRESENT = Statement("UPDATE blob SET state = 'present' WHERE id = :id AND state <> 'present'")
_IS_UNCOPIED = (
    "EXISTS (SELECT 1 FROM blob_location l WHERE l.blob_id = b.id AND l.store = :store AND l.migration IS NOT NULL"
    " AND l.state IN ('original', 'current'))"
    " AND EXISTS (SELECT 1 FROM membership m WHERE m.blob_id = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM blob_location c WHERE c.blob_id = b.id AND c.store = :store"
    " AND c.state = 'current' AND c.migration IS NULL AND c.verified_at IS NOT NULL)"
)
_UNCOPIED = Statement(
    f"SELECT {BLOB} FROM blob b WHERE b.digest > :after AND {_IS_UNCOPIED}"  # noqa: S608 - constant
    " ORDER BY b.digest LIMIT :count"
)
_UNCOPIED_TOTAL = Statement(
    f"SELECT count(*), CAST(coalesce(sum(b.size), 0) AS BIGINT) FROM blob b WHERE {_IS_UNCOPIED}"  # noqa: S608 - constant
)
_SET_COPIED = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state, verified_at)"
    " SELECT b.id, :store, :key, :size, :etag, 'current', :now FROM blob b WHERE b.digest = :digest"
    " ON CONFLICT (store, key) DO UPDATE SET size = excluded.size, signature = excluded.signature,"
    " state = 'current', verified_at = excluded.verified_at"
    " WHERE blob_location.state <> 'deleting'"
    " AND (blob_location.verified_at IS NULL OR blob_location.state <> 'current')"
)
_COPIED = Statement(
    "SELECT b.digest FROM blob b WHERE b.digest IN :digests AND EXISTS"
    " (SELECT 1 FROM blob_location l WHERE l.blob_id = b.id AND l.store = :store AND l.state = 'current'"
    " AND l.migration IS NULL AND l.verified_at IS NOT NULL)",
    expanding="digests",
)
# Nearly every location is in one store, so that the store is no way to find it: an expression keeps a database from
# trying.
_PLACED = Statement(
    f"SELECT {BLOB}, {COLUMNS} FROM blob b"  # noqa: S608 - constant columns
    " JOIN blob_location l ON l.blob_id = b.id AND l.store || '' = :store"
    " WHERE b.digest >= :low AND b.digest < :high ORDER BY b.digest, l.key"
)
_NEXT_SOURCES = Statement(
    "SELECT id FROM blob_location"
    " WHERE migration = :migration AND id > :after AND store = :store AND state IN ('original', 'current')"
    " ORDER BY id LIMIT :count"
)
_SET_CURRENT = Statement(
    "UPDATE blob_location SET state = 'current'"
    " WHERE migration = :migration AND id > :after AND id <= :last AND store = :store AND state = 'original'"
)
_SET_COPY = Statement(
    "UPDATE blob_location SET state = 'copy' WHERE store = :store AND state = 'current' AND migration IS NULL"
    " AND blob_id IN (SELECT o.blob_id FROM blob_location o WHERE o.migration = :migration AND o.id > :after"
    " AND o.id <= :last AND o.store = :store AND o.state = 'current')"
)
_FORGET_ALL = Statement("DELETE FROM blob_location WHERE store = :store AND migration IS NOT NULL")
_FORGET = Statement("DELETE FROM blob_location WHERE store = :store AND key IN :keys", expanding="keys")


def put(connection: Transaction, migration: str, lines: Iterable[SourceObject], *, store: str, now: float) -> list[str]:
    """Note locations of the source registry, and their blobs, if unknown; for any number of lines.

    A location that is noted at this etag stays as it is, verified or lost, unless the line says that it was hashed
    since. Bytes that were missing are present again where a location of them is new. Putting twice is the same as once.
    Returns the digests whose blob is known with another size: nothing was noted of these.
    """
    refused: dict[str, None] = {}
    ordered = sorted(lines)  # a concurrent caller with the same lines locks their rows in the same order
    for batch in batches(ordered):
        refused.update(dict.fromkeys(_put_batch(connection, migration, batch, store, now)))
    return list(refused)


def uncopied(connection: Transaction, *, store: str, after: str, count: int) -> Later[list[BlobRow]]:
    """At most ``count`` blobs that a repository has, with a source object and no verified object of ours, by digest.

    Only those that sort after the digest ``after``. ``blob_locations.of_blob`` tells where they are.
    """
    values = {"store": store, "after": after, "count": count}
    return connection.execute(_UNCOPIED, values).all_as(BlobRow)


def uncopied_total(connection: Transaction, *, store: str) -> Later[tuple[int, int]]:
    """How many blobs ``uncopied`` would tell of, and their bytes."""
    return connection.execute(_UNCOPIED_TOTAL, {"store": store}).one_as(lambda blobs, size: (int(blobs), int(size)))


def set_copied(connection: Transaction, copies: Sequence[Copied], *, store: str, now: float) -> list[str]:
    """Note our objects. Returns the digests of which it could not be: a push has noted its own, or it is being deleted.

    They are ``uncopied`` still, or copied by that push.
    """
    changed = [
        connection.execute(_SET_COPIED, {**copy._asdict(), "store": store, "now": now}).later(
            lambda rows: rows.rowcount
        )
        for copy in copies
    ]
    return [copy.digest for copy, count in zip(copies, changed, strict=True) if not count.get()]


def copied(connection: Transaction, digests: Sequence[str], *, store: str) -> Later[set[str]]:
    """Those of ``digests`` of which we have a verified object of our own; any number."""
    found = [connection.execute(_COPIED, {"store": store, "digests": batch}).all_as(str) for batch in batches(digests)]
    return Later(lambda: {digest for batch in found for digest in batch.get()})


def placed(connection: Transaction, *, store: str, low: str, high: str) -> Later[list[tuple[BlobRow, LocationRow]]]:
    """Every location of the blobs from the digest ``low`` up to below ``high``, by digest and key."""
    rows = connection.execute(_PLACED, {"store": store, "low": low, "high": high})
    width = len(BlobRow._fields)
    return rows.later(lambda rows: [(BlobRow(*row[:width]), LocationRow(*row[width:])) for row in rows])


def swap(connection: Transaction, migration: str, *, store: str, after: int, count: int) -> int | None:
    """Make the next source objects after the id ``after`` current, and our objects of the same blobs copies (rollback).

    At most ``count``. Returns where to go on; None if there was none. Swapping twice is the same as once.
    """
    values = {"migration": migration, "store": store, "after": after}
    rows = connection.execute(_NEXT_SOURCES, {**values, "count": count}).all()
    if not rows:
        return None
    last: int = rows[-1][0]
    connection.execute(_SET_CURRENT, {**values, "last": last})
    connection.execute(_SET_COPY, {**values, "last": last})
    return last


def forget(connection: Transaction, keys: Sequence[str], *, store: str) -> None:
    """Forget locations, before their objects are deleted, so that no reader chooses them any more. Any number."""
    for batch in batches(keys):
        connection.execute(_FORGET, {"store": store, "keys": batch})


def forget_all(connection: Transaction, *, store: str) -> None:
    """Forget every location that a migration brought: their objects are gone.

    In a transaction of ``Database.exclusive``: the readers that chose one have ended, and no reader can choose one now.
    """
    connection.execute(_FORGET_ALL, {"store": store})


def _put_batch(
    connection: Transaction, migration: str, lines: Sequence[SourceObject], store: str, now: float
) -> list[str]:
    keys = [line.key for line in lines]
    rows = connection.execute(_NOTED, {"store": store, "keys": keys}).all_as(LocationRow)
    known = blobs.find_all(connection, list(dict.fromkeys(line.digest for line in lines))).get()
    noted = {row.key: row for row in rows.get()}
    replaced = {line.digest for line in lines if line.key in noted and noted[line.key].etag != line.etag}
    for digest, blob in known.items():
        # Where the bytes are read is remembered. Repositories are locked before blobs, also before new ones.
        if blob.state in {MISSING, QUARANTINED} or digest in replaced:
            repositories.raise_versions_of_holders(connection, digest)
    known |= blobs.adopt_all(connection, {line.digest: line.size for line in lines if line.digest not in known}).get()
    for line in lines:
        blob = known[line.digest]
        if blob.size == line.size:
            _put(connection, migration, line, blob, noted.get(line.key), store=store, now=now)
    return [line.digest for line in lines if known[line.digest].size != line.size]


def _put(
    connection: Transaction,
    migration: str,
    line: SourceObject,
    blob: BlobRow,
    noted: LocationRow | None,
    *,
    store: str,
    now: float,
) -> None:
    verified_at = now if line.verified else None
    if noted is not None and (noted.blob_id, noted.size, noted.etag) == (blob.id, line.size, line.etag):
        verified_at = noted.verified_at or verified_at
        as_noted = (noted.state, noted.verified_at, noted.migration) == (ORIGINAL, verified_at, migration)
        if as_noted or (noted.state == LOST and not line.verified):
            return
    values = {"blob": blob.id, "store": store, "key": line.key, "size": line.size, "etag": line.etag}
    connection.execute(_PUT, {**values, "verified_at": verified_at, "migration": migration})
    connection.execute(_SET_PRESENT, {"id": blob.id})
    connection.execute(_COPIES_AGAIN, {"blob": blob.id, "store": store})
