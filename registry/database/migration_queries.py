"""Migration queries: what a migration reads and writes about source locations and the content of repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from registry.database import repositories as repository_rows
from registry.database.blobs import BATCH, MISSING, QUARANTINED
from registry.database.statement import Statement
from registry.database.transaction import Later

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.transaction import Transaction


class HeldRow(NamedTuple):
    """A blob that a repository has, manifests too."""

    digest: str
    size: int
    """Bytes."""
    state: str


class NamedRow(NamedTuple):
    """What one manifest of a repository names."""

    manifest: str
    digest: str
    kind: str
    """One of ``manifests.BLOB``, ``OPTIONAL``, ``MANIFEST`` and ``FORMER``."""


class LostRow(NamedTuple):
    """A place that was found gone or wrong."""

    key: str
    signature: str
    """At which it was."""


_NEEDING = Statement(
    "SELECT r.name FROM repository r JOIN membership m ON m.repository_id = r.id WHERE m.blob_id = :blob AND"
    " (EXISTS (SELECT 1 FROM reference f WHERE f.repository_id = r.id AND f.digest = :digest)"
    " OR EXISTS (SELECT 1 FROM manifest f WHERE f.repository_id = r.id AND f.blob_id = m.blob_id))"
    " ORDER BY r.name LIMIT 1"
)
_HELD = Statement(
    "SELECT b.digest, b.size, b.state FROM membership m JOIN blob b ON b.id = m.blob_id"
    " WHERE m.repository_id = :repository ORDER BY b.digest"
)
_NAMED = Statement(
    "SELECT b.digest, r.digest, r.kind FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository ORDER BY b.digest, r.digest"
)
# Nearly every place is of one store, which is no way to look for it: an expression keeps a database from trying.
_LOST = Statement(
    "SELECT l.key, l.signature FROM membership m"
    " JOIN blob_location l ON l.blob_id = m.blob_id AND l.store || '' = :store"
    " WHERE m.repository_id = :repository AND l.state = 'lost' ORDER BY l.key"
)


def held(connection: Transaction, repository_id: int) -> Later[list[HeldRow]]:
    """Every blob of a repository, by digest."""
    return connection.execute(_HELD, {"repository": repository_id}).all_as(HeldRow)


def named(connection: Transaction, repository_id: int) -> Later[list[NamedRow]]:
    """Everything that the manifests of a repository name, by manifest."""
    return connection.execute(_NAMED, {"repository": repository_id}).all_as(NamedRow)


def lost(connection: Transaction, repository_id: int, *, store: str) -> Later[list[LostRow]]:
    """The places of a repository's blobs that are not read any more, by key."""
    return connection.execute(_LOST, {"repository": repository_id, "store": store}).all_as(LostRow)


def needing(connection: Transaction, blob_id: int, digest: str) -> Later[str | None]:
    """The first repository that has the blob as a manifest, or in a manifest that names it; None if none needs it."""
    return connection.execute(_NEEDING, {"blob": blob_id, "digest": digest}).first_as(str)


ORIGINAL = "original"
"""An object of the original, which it serves too."""
COPY = "copy"
"""Our object, once a rollback has made the original's current again."""
LOST = "lost"
"""It was found gone, or with other bytes, at this signature: it is not read."""


class Original(NamedTuple):
    """An object of the original with the bytes of a blob."""

    digest: str
    size: int
    """Bytes."""
    key: str
    signature: str
    verified: bool
    """It was hashed at this signature."""


class Copied(NamedTuple):
    """Our object with the bytes of a blob, read and hashed after it was written."""

    digest: str
    size: int
    """Bytes."""
    key: str
    signature: str


class UncopiedRow(NamedTuple):
    """A blob of which we have no verified object of our own."""

    blob_id: int
    digest: str
    size: int
    """Bytes."""


class PlacedRow(NamedTuple):
    """A place of a blob, in any state."""

    digest: str
    blob_size: int
    """Bytes."""
    id: int
    key: str
    size: int
    signature: str
    state: str
    verified_at: float | None
    migration: str | None


_ADOPT = Statement(
    "INSERT INTO blob (algorithm, digest, size, state, generation, leased_until)"
    " VALUES (:algorithm, :digest, :size, 'present', 0, 0) ON CONFLICT (digest) DO NOTHING"
)
_BLOBS = Statement("SELECT digest, id, size, state FROM blob WHERE digest IN :digests", expanding="digests")
_NOTED = Statement(
    "SELECT key, blob_id, size, signature, state, verified_at, migration FROM blob_location"
    " WHERE store = :store AND key IN :keys",
    expanding="keys",
)
_PUT = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state, verified_at, migration)"
    " VALUES (:blob, :store, :key, :size, :signature, 'original', :verified_at, :migration)"
    " ON CONFLICT (store, key) DO UPDATE SET blob_id = excluded.blob_id, size = excluded.size,"
    " signature = excluded.signature, state = 'original', claim_token = NULL, claim_deadline = NULL,"
    " verified_at = excluded.verified_at, migration = excluded.migration"
)
_COPIES_AGAIN = Statement(
    "UPDATE blob_location SET state = 'current' WHERE blob_id = :blob AND store = :store AND state = 'copy'"
)
_SET_PRESENT = Statement("UPDATE blob SET state = 'present' WHERE id = :id AND state IN ('missing', 'quarantined')")
_IS_UNCOPIED = (
    "EXISTS (SELECT 1 FROM blob_location l WHERE l.blob_id = b.id AND l.store = :store AND l.migration IS NOT NULL"
    " AND l.state IN ('original', 'current'))"
    " AND EXISTS (SELECT 1 FROM membership m WHERE m.blob_id = b.id)"
    " AND NOT EXISTS (SELECT 1 FROM blob_location c WHERE c.blob_id = b.id AND c.store = :store"
    " AND c.state = 'current' AND c.migration IS NULL AND c.verified_at IS NOT NULL)"
)
_UNCOPIED = Statement(
    f"SELECT b.id, b.digest, b.size FROM blob b WHERE b.digest > :after AND {_IS_UNCOPIED}"  # noqa: S608 - constant
    " ORDER BY b.digest LIMIT :count"
)
_UNCOPIED_TOTAL = Statement(
    f"SELECT count(*), CAST(coalesce(sum(b.size), 0) AS BIGINT) FROM blob b WHERE {_IS_UNCOPIED}"  # noqa: S608 - constant
)
_SET_VERIFIED = Statement("UPDATE blob_location SET verified_at = :now WHERE id = :id AND signature = :signature")
_SET_COPIED = Statement(
    "INSERT INTO blob_location (blob_id, store, key, size, signature, state, verified_at)"
    " SELECT b.id, :store, :key, :size, :signature, 'current', :now FROM blob b WHERE b.digest = :digest"
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
# Nearly every place is of one store, which is no way to look for it: an expression keeps a database from trying.
_PLACED = Statement(
    "SELECT b.digest, b.size, l.id, l.key, l.size, l.signature, l.state, l.verified_at, l.migration FROM blob b"
    " JOIN blob_location l ON l.blob_id = b.id AND l.store || '' = :store"
    " WHERE b.digest >= :low AND b.digest < :high ORDER BY b.digest, l.key"
)
_NEXT_ORIGINALS = Statement(
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


def put(connection: Transaction, migration: str, lines: Iterable[Original], *, store: str, now: float) -> list[str]:
    """Note places of the original, and their blobs, if unknown; for any number of lines.

    A place that is noted at this signature stays as it is, verified or lost, unless the line says that it was hashed
    since. Bytes that were missing are present again where a place of them is new. Putting twice is the same as once.
    Returns the digests whose blob is known with another size: nothing was noted of these.
    """
    refused: dict[str, None] = {}
    ordered = sorted(lines)  # a concurrent caller with the same lines locks their rows in the same order
    for start in range(0, len(ordered), BATCH):
        refused.update(dict.fromkeys(_put_batch(connection, migration, ordered[start : start + BATCH], store, now)))
    return list(refused)


def uncopied(connection: Transaction, *, store: str, after: str, count: int) -> Later[list[UncopiedRow]]:
    """At most ``count`` blobs that a repository has, with an original and no verified object of ours, by digest.

    Only those that sort after the digest ``after``. ``places.of_blob`` tells where they are.
    """
    values = {"store": store, "after": after, "count": count}
    return connection.execute(_UNCOPIED, values).all_as(UncopiedRow)


def uncopied_total(connection: Transaction, *, store: str) -> Later[tuple[int, int]]:
    """How many blobs ``uncopied`` would tell of, and their bytes."""
    return connection.execute(_UNCOPIED_TOTAL, {"store": store}).one_as(lambda blobs, size: (int(blobs), int(size)))


def set_verified(connection: Transaction, location_id: int, *, signature: str, now: float) -> None:
    """Note that the object at this place was hashed and is right, unless the place has another signature by now."""
    connection.execute(_SET_VERIFIED, {"id": location_id, "signature": signature, "now": now})


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
    found = [
        connection.execute(_COPIED, {"store": store, "digests": digests[start : start + BATCH]}).all_as(str)
        for start in range(0, len(digests), BATCH)
    ]
    return Later(lambda: {digest for batch in found for digest in batch.get()})


def placed(connection: Transaction, *, store: str, low: str, high: str) -> Later[list[PlacedRow]]:
    """Every place of the blobs from the digest ``low`` up to below ``high``, by digest and key."""
    return connection.execute(_PLACED, {"store": store, "low": low, "high": high}).all_as(PlacedRow)


def swap(connection: Transaction, migration: str, *, store: str, after: int, count: int) -> int | None:
    """Make the next originals after the id ``after`` current, and our objects of the same blobs copies (rollback).

    At most ``count``. Returns where to go on; None: there was none. Swapping twice is the same as once.
    """
    values = {"migration": migration, "store": store, "after": after}
    rows = connection.execute(_NEXT_ORIGINALS, {**values, "count": count}).all()
    if not rows:
        return None
    last: int = rows[-1][0]
    connection.execute(_SET_CURRENT, {**values, "last": last})
    connection.execute(_SET_COPY, {**values, "last": last})
    return last


def forget(connection: Transaction, keys: Sequence[str], *, store: str) -> None:
    """Forget places, before their objects are deleted, so that no reader chooses them any more. Any number."""
    for start in range(0, len(keys), BATCH):
        connection.execute(_FORGET, {"store": store, "keys": keys[start : start + BATCH]})


def forget_all(connection: Transaction, *, store: str) -> None:
    """Forget every place that a migration brought, in a transaction of ``Database.exclusive``: the originals are gone.

    The readers that chose one have ended, and no reader can choose one any more.
    """
    connection.execute(_FORGET_ALL, {"store": store})


class _Blob(NamedTuple):
    id: int
    size: int
    state: str


def _put_batch(connection: Transaction, migration: str, lines: Sequence[Original], store: str, now: float) -> list[str]:
    keys = [line.key for line in lines]
    noted = {row[0]: tuple(row[1:]) for row in connection.execute(_NOTED, {"store": store, "keys": keys})}
    blobs = _blobs(connection, list(dict.fromkeys(line.digest for line in lines)))
    replaced = {line.digest for line in lines if line.key in noted and noted[line.key][2] != line.signature}
    for digest, blob in blobs.items():
        # Where the bytes are read is remembered. Repositories are locked before blobs, also before new ones.
        if blob.state in {MISSING, QUARANTINED} or digest in replaced:
            repository_rows.raise_versions_of_holders(connection, digest)
    blobs |= _adopt(connection, {line.digest: line.size for line in lines if line.digest not in blobs})
    for line in lines:
        blob = blobs[line.digest]
        if blob.size == line.size:
            _put(connection, migration, line, blob, noted.get(line.key), store=store, now=now)
    return [line.digest for line in lines if blobs[line.digest].size != line.size]


def _put(
    connection: Transaction,
    migration: str,
    line: Original,
    blob: _Blob,
    noted: tuple[Any, ...] | None,
    *,
    store: str,
    now: float,
) -> None:
    verified_at = now if line.verified else None
    if noted is not None and noted[:3] == (blob.id, line.size, line.signature):
        state, known_verified, known_migration = noted[3:]
        verified_at = known_verified or verified_at
        as_noted = (state, known_verified, known_migration) == (ORIGINAL, verified_at, migration)
        if as_noted or (state == LOST and not line.verified):
            return
    values = {"blob": blob.id, "store": store, "key": line.key, "size": line.size, "signature": line.signature}
    connection.execute(_PUT, {**values, "verified_at": verified_at, "migration": migration})
    connection.execute(_SET_PRESENT, {"id": blob.id})
    connection.execute(_COPIES_AGAIN, {"blob": blob.id, "store": store})


def _adopt(connection: Transaction, sizes: dict[str, int]) -> dict[str, _Blob]:
    """Make rows of these blobs. Returns all of them: some may have been made meanwhile, with other sizes."""
    for digest, size in sizes.items():
        connection.execute(_ADOPT, {"algorithm": digest.partition(":")[0], "digest": digest, "size": size})
    return _blobs(connection, list(sizes)) if sizes else {}


def _blobs(connection: Transaction, digests: list[str]) -> dict[str, _Blob]:
    return {digest: _Blob(*blob) for digest, *blob in connection.execute(_BLOBS, {"digests": digests})}
