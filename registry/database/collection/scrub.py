"""Rows of a scrub: locations in the order in which they were last read whole, and what becomes of wrong ones.

Tests: ``tests/maintenance/scrub/test_run.py``, ``tests/maintenance/scrub/test_order.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import blob_locations, blobs, repositories
from registry.database.blob_locations import READABLE
from registry.database.statement import BATCH, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.database.transaction import Later, Transaction

_UNVERIFIED = -1.0
"""What stands in a comparison for the time of a location that was never hashed."""


class ScrubRow(NamedTuple):
    """A location with its blob."""

    id: int
    blob_id: int
    digest: str
    key: str
    size: int
    """Bytes of the blob."""
    etag: str
    """As noted."""
    state: str
    verified_at: float | None
    scrubbed_at: float | None
    migration: str | None
    """The migration that brought it, or None."""


class BlobWithoutLocation(NamedTuple):
    """A blob that is known to be missing or wrong, and has no location."""

    id: int
    digest: str
    size: int
    """Bytes."""
    state: str


class MemberRow(NamedTuple):
    """A blob of a repository that has blobs of its own, and whether its location is noted."""

    repository_id: int
    repository: str
    """Its name."""
    blob_id: int
    digest: str
    size: int
    """Bytes."""
    state: str | None
    """The state of the location in this repository; None if none is noted."""


class Holder(NamedTuple):
    """A repository that has a blob."""

    id: int
    name: str


_COLUMNS = (
    "l.id, l.blob_id, b.digest, l.key, b.size, l.signature, l.state, l.verified_at, l.scrubbed_at, l.migration"
    " FROM blob_location l JOIN blob b ON b.id = l.blob_id WHERE"
)
_IN_STORE = "l.store || '' = :store"
"""Not by the index of stores and keys, of which a planner that knows nothing of the tables may read and sort all."""
_STATES = f"{READABLE!r}"
_NEVER = Statement(
    f"SELECT {_COLUMNS} {_IN_STORE} AND l.id > :after AND l.id <= :until AND l.scrubbed_at IS NULL"
    f" AND l.state IN {_STATES} ORDER BY l.id LIMIT :count"
)
_OLDEST = Statement(
    f"SELECT {_COLUMNS} l.store = :store AND l.scrubbed_at < :before AND (l.scrubbed_at, l.id) > (:at, :after)"
    f" AND l.state IN {_STATES} ORDER BY l.scrubbed_at, l.id LIMIT :count"
)
_OF_BLOB = Statement(
    f"SELECT {_COLUMNS} {_IN_STORE} AND l.blob_id = :blob AND l.id > :after AND l.state IN {_STATES}"
    " ORDER BY l.id LIMIT :count"
)
_IS_READ = Statement(
    "SELECT 1 FROM blob_location WHERE blob_id = :blob AND signature = :etag AND scrubbed_at >= :since"
    " AND scrubbed_at <= :until LIMIT 1"
)
_GET = Statement(f"SELECT {_COLUMNS} {_IN_STORE} AND l.id = :id")
_LOST = Statement(
    f"SELECT {_COLUMNS} {_IN_STORE} AND l.id > :after AND l.id <= :until AND l.state = 'lost' ORDER BY l.id"
)
_WITHOUT_LOCATION = Statement(
    "SELECT b.id, b.digest, b.size, b.state FROM blob b WHERE b.id > :after AND b.id <= :until"
    " AND b.state IN ('missing', 'quarantined')"
    " AND NOT EXISTS (SELECT 1 FROM blob_location l WHERE l.blob_id = b.id AND l.store = :store) ORDER BY b.id"
)
_MEMBERS = Statement(
    "SELECT m.repository_id, r.name, m.blob_id, b.digest, b.size, l.state"
    " FROM (SELECT repository_id, blob_id FROM membership WHERE (repository_id, blob_id) > (:repository, :blob)"
    " ORDER BY repository_id, blob_id LIMIT :count) m"
    " JOIN repository r ON r.id = m.repository_id JOIN blob b ON b.id = m.blob_id"
    " LEFT JOIN blob_location l ON l.store = :store AND l.key = r.name || '/blobs/' || replace(b.digest, ':', '/')"
)
_LAST = Statement("SELECT COALESCE(MAX(id), 0) FROM blob_location")
_LAST_BLOB = Statement("SELECT COALESCE(MAX(id), 0) FROM blob")
_COUNT_DUE = Statement(
    f"SELECT COUNT(*) FROM blob_location l WHERE {_IN_STORE} AND l.id > :after AND l.id <= :until"  # noqa: S608 - constant
    f" AND (l.scrubbed_at IS NULL OR l.scrubbed_at < :before OR l.scrubbed_at > :ahead) AND l.state IN {_STATES}"
)
_SET_RIGHT = Statement(
    "UPDATE blob_location SET scrubbed_at = :now, verified_at = COALESCE(verified_at, :now), signature = :etag"  # noqa: S608 - constant
    f" WHERE id = :id AND signature = :was AND state IN {_STATES}"
)
_AS_READ = f"id = :id AND signature = :etag AND COALESCE(verified_at, {_UNVERIFIED}) = :verified_at"
_SET_WRONG = Statement(
    f"UPDATE blob_location SET state = 'lost', verified_at = NULL WHERE {_AS_READ} AND state IN {_STATES}"  # noqa: S608 - constant
)
_IS_AS_READ = Statement(f"SELECT 1 FROM blob_location WHERE {_AS_READ} AND state IN {_STATES}")  # noqa: S608 - constant
_SET_CURRENT = Statement(
    "UPDATE blob_location SET state = 'current', signature = :etag, verified_at = :now, scrubbed_at = :now"
    " WHERE id = :id AND signature = :was AND state = 'lost' AND migration IS NULL"
)
_RAISE_GENERATION = Statement("UPDATE blob SET generation = generation + 1 WHERE id = :id")
_HEAL = Statement("UPDATE blob SET state = 'present' WHERE id = :id AND state IN ('missing', 'quarantined')")
_HOLDERS = Statement(
    "SELECT r.id, r.name FROM membership m JOIN repository r ON r.id = m.repository_id"
    " WHERE m.blob_id = :blob ORDER BY r.id LIMIT :count"
)
_COUNT_HOLDERS = Statement("SELECT COUNT(*) FROM membership WHERE blob_id = :blob")
_IS_WANTED = Statement(
    "SELECT CASE WHEN EXISTS (SELECT 1 FROM membership m WHERE m.blob_id = b.id)"
    " OR EXISTS (SELECT 1 FROM trash_manifest t WHERE t.blob_id = b.id)"
    " OR EXISTS (SELECT 1 FROM trash_reference x WHERE x.digest = b.digest) THEN 1 ELSE 0 END"
    " FROM blob b WHERE b.id = :blob"
)
_NAMED_BY = Statement(
    "SELECT DISTINCT b.digest FROM reference r JOIN blob b ON b.id = r.manifest_id"
    " WHERE r.repository_id = :repository AND r.digest IN :digests ORDER BY b.digest",
    expanding="digests",
)
_TAGS = Statement(
    "SELECT t.name FROM blob b JOIN tag t ON t.blob_id = b.id"
    " WHERE t.repository_id = :repository AND b.digest IN :digests ORDER BY t.name",
    expanding="digests",
)
_KEYS = Statement(
    "SELECT key FROM blob_location WHERE store = :store AND key > :after AND key < :end ORDER BY key LIMIT :count"
)


def never_scrubbed(connection: Transaction, *, store: str, after: int, until: int, count: int) -> Later[list[ScrubRow]]:
    """At most ``count`` locations that are read by clients and were never scrubbed, of ids in the range, by id."""
    values = {"store": store, "after": after, "until": until, "count": count}
    return connection.execute(_NEVER, values).all_as(ScrubRow)


def oldest(
    connection: Transaction, *, store: str, before: float, after: tuple[float, int], count: int
) -> Later[list[ScrubRow]]:
    """At most ``count`` locations that were last scrubbed before that moment, the oldest first, behind ``after``."""
    values = {"store": store, "before": before, "at": after[0], "after": after[1], "count": count}
    return connection.execute(_OLDEST, values).all_as(ScrubRow)


def of_blob(
    connection: Transaction, blob_id: int, *, store: str, after: int = 0, count: int = 1000
) -> Later[list[ScrubRow]]:
    """At most ``count`` locations of a blob that are read by clients, of ids above ``after``, by id."""
    values = {"blob": blob_id, "store": store, "after": after, "count": count}
    return connection.execute(_OF_BLOB, values).all_as(ScrubRow)


def is_read(connection: Transaction, blob_id: int, *, etag: str, since: float, until: float) -> bool:
    """Whether a location of a blob with this etag was found right between these moments."""
    values = {"blob": blob_id, "etag": etag, "since": since, "until": until}
    return connection.execute(_IS_READ, values).first() is not None


def get(connection: Transaction, location_id: int, *, store: str) -> Later[ScrubRow | None]:
    """One location, in whatever state."""
    return connection.execute(_GET, {"id": location_id, "store": store}).first_as(ScrubRow)


def lost(connection: Transaction, *, store: str, after: int, until: int) -> Later[list[ScrubRow]]:
    """The locations of ids in the range that were found missing or wrong."""
    return connection.execute(_LOST, {"store": store, "after": after, "until": until}).all_as(ScrubRow)


def without_location(
    connection: Transaction, *, store: str, after: int, until: int
) -> Later[list[BlobWithoutLocation]]:
    """The blobs of ids in the range that are missing or quarantined and have no location."""
    values = {"store": store, "after": after, "until": until}
    return connection.execute(_WITHOUT_LOCATION, values).all_as(BlobWithoutLocation)


def members(connection: Transaction, *, store: str, after: tuple[int, int], count: int) -> Later[list[MemberRow]]:
    """At most ``count`` memberships after that one (ids of repository and blob), where each has its own location."""
    values = {"store": store, "repository": after[0], "blob": after[1], "count": count}
    rows = connection.execute(_MEMBERS, values)
    return rows.later(lambda rows: sorted((MemberRow(*row) for row in rows.all()), key=lambda row: row[0:3:2]))


def last_location(connection: Transaction) -> Later[int]:
    """The greatest id of a location, 0 without any."""
    return connection.execute(_LAST, {}).one_as(int)


def last_blob(connection: Transaction) -> Later[int]:
    """The greatest id of a blob, 0 without any."""
    return connection.execute(_LAST_BLOB, {}).one_as(int)


def count_due(
    connection: Transaction, *, store: str, before: float, ahead: float, after: int, until: int
) -> Later[int]:
    """How many locations of ids in the range were not scrubbed between the moments ``before`` and ``ahead``."""
    values = {"store": store, "before": before, "ahead": ahead, "after": after, "until": until}
    return connection.execute(_COUNT_DUE, values).one_as(int)


def set_right(connection: Transaction, rows: Iterable[ScrubRow], *, etag: str, now: float) -> None:
    """Note that the objects were read whole at ``etag`` and are right; rows that have changed meanwhile stay."""
    connection.execute_many(_SET_RIGHT, [{"id": row.id, "was": row.etag, "etag": etag, "now": now} for row in rows])


def quarantine(connection: Transaction, row: ScrubRow, *, store: str, state: str) -> bool:
    """Read a location no more; without another one its blob is in ``state``, MISSING or QUARANTINED.

    The generation is raised, so that a publisher that relied on the object repeats its step, and so are the versions of
    all repositories that have the blob, so that no process remembers it. False, and nothing is done, if the row is not
    as ``row`` has it: the bytes were published again.
    """
    repositories.raise_versions_of_holders(connection, row.digest)
    blob = blobs.lock(connection, row.digest).get()
    if blob is None or not connection.execute(_SET_WRONG, _as_read(row)).rowcount:
        return False
    connection.execute(_RAISE_GENERATION, {"id": blob.id})
    if not blob_locations.of_blob(connection, blob.id, store=store).get():
        blobs.set_state(connection, blob.id, state)
    return True


def is_as_read(connection: Transaction, row: ScrubRow) -> bool:
    """Whether a location is read by clients and is what ``row`` says: nothing was published there since."""
    return connection.execute(_IS_AS_READ, _as_read(row)).first() is not None


def set_current(connection: Transaction, row: ScrubRow, *, etag: str, now: float) -> bool:
    """Read a lost location again, whose object was hashed at ``etag`` and is right.

    False, and nothing is done, if it is not lost any more, or not as ``row`` has it, or of a source registry.
    """
    repositories.raise_versions_of_holders(connection, row.digest)
    blob = blobs.lock(connection, row.digest).get()
    values = {"id": row.id, "was": row.etag, "etag": etag, "now": now}
    if blob is None or not connection.execute(_SET_CURRENT, values).rowcount:
        return False
    connection.execute(_HEAL, {"id": blob.id})
    return True


def holders(connection: Transaction, blob_id: int, *, count: int) -> Later[list[Holder]]:
    """At most ``count`` repositories that have the blob, the oldest first."""
    return connection.execute(_HOLDERS, {"blob": blob_id, "count": count}).all_as(Holder)


def count_holders(connection: Transaction, blob_id: int) -> Later[int]:
    """How many repositories have the blob."""
    return connection.execute(_COUNT_HOLDERS, {"blob": blob_id}).one_as(int)


def is_wanted(connection: Transaction, blob_id: int) -> Later[bool]:
    """Whether a repository has the blob, or can have it again."""
    rows = connection.execute(_IS_WANTED, {"blob": blob_id})
    return rows.later(lambda rows: bool((rows.first() or (0,))[0]))


def named_by(connection: Transaction, repository_id: int, digests: Sequence[str]) -> list[str]:
    """Digests of the manifests of a repository that name any of ``digests``, at most BATCH."""
    values = {"repository": repository_id, "digests": digests[:BATCH]}
    return connection.execute(_NAMED_BY, values).all_as(str).get()


def tags(connection: Transaction, repository_id: int, digests: Sequence[str]) -> list[str]:
    """The tags of a repository that point at any of ``digests``, at most BATCH."""
    values = {"repository": repository_id, "digests": digests[:BATCH]}
    return connection.execute(_TAGS, values).all_as(str).get()


def keys(connection: Transaction, *, store: str, after: str, end: str, count: int) -> Later[list[str]]:
    """At most ``count`` noted keys between ``after`` and ``end``, sorted by byte."""
    values = {"store": store, "after": after, "end": end, "count": count}
    return connection.execute(_KEYS, values).all_as(str)


def _as_read(row: ScrubRow) -> dict[str, object]:
    verified_at = _UNVERIFIED if row.verified_at is None else row.verified_at
    return {"id": row.id, "etag": row.etag, "verified_at": verified_at}
