"""*Fetches*: rows of what is on its way from upstreams, by which all processes bring it once (I15).

A row has one leader at a time: the process that is its holder, until its deadline. Each leader raises the epoch, and
whatever a leader writes names its own, so that one which was frozen, and wakes when another leads, changes nothing.
Its moments are by the clock of the database (see ``registry.database.clock``). A row of an earlier start of the machine
has no leader, and its bytes may never have reached the disk: it begins anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement, batches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.database.transaction import Later, Transaction

ACTIVE = "active"
"""It is on its way, or a process may bring the rest of it."""
PUBLISHED = "published"
"""It has become a member of its repository, in the same transaction."""
FAILED = "failed"
"""It cannot be had before ``retry_at``, and nothing of it was kept."""
BLOB = "blob"
"""The kind of a fetch whose key is a digest."""

_IS_OTHER_CLOCK = "upstream_fetch.clock <> clock_name()"
_IS_FREE = (
    f"(upstream_fetch.holder IS NULL OR upstream_fetch.deadline < clock_now() OR {_IS_OTHER_CLOCK})"
    f" AND (upstream_fetch.retry_at IS NULL OR upstream_fetch.retry_at <= clock_now() OR {_IS_OTHER_CLOCK})"
)
_COLUMNS = (
    "id, mirror, key, repository, state, epoch, edition, holder, size, etag, media_type,"
    ' "offset", upload_id, driver_state, tail, fails, error,'
    f" CASE WHEN {_IS_OTHER_CLOCK} THEN NULL ELSE upstream_fetch.retry_at - clock_now() END,"
    f" CASE WHEN {_IS_FREE} THEN 1 ELSE 0 END"
)
_SELECT = f"SELECT {_COLUMNS} FROM upstream_fetch"  # noqa: S608 - constant columns
_GOES_ON = "upstream_fetch.state = 'active' AND upstream_fetch.clock = excluded.clock"


def _kept(column: str, otherwise: str = "NULL") -> str:
    return f"{column} = CASE WHEN {_GOES_ON} THEN upstream_fetch.{column} ELSE {otherwise} END"


_CLAIM = Statement(
    "INSERT INTO upstream_fetch (mirror, kind, key, repository, state, epoch, edition, holder, clock, deadline,"  # noqa: S608 - as above
    " touched_at, started_at) VALUES (:mirror, :kind, :key, :repository, 'active', 1, 1, :holder, clock_name(),"
    " clock_now() + :seconds, clock_now(), wall_now())"
    " ON CONFLICT (mirror, key) DO UPDATE SET state = 'active', epoch = upstream_fetch.epoch + 1,"
    " holder = excluded.holder, repository = excluded.repository, clock = excluded.clock, deadline = excluded.deadline,"
    f" touched_at = excluded.touched_at, retry_at = NULL, {_kept('size')}, {_kept('etag')}, {_kept('media_type')},"
    f" {_kept(chr(34) + 'offset' + chr(34), '0')}, {_kept('edition', 'upstream_fetch.edition + 1')}"
    f" WHERE ((upstream_fetch.holder IS NOT NULL AND upstream_fetch.holder = :dead) OR ({_IS_FREE})"
    " OR (upstream_fetch.state = 'failed' AND upstream_fetch.repository <> excluded.repository))"
    f" AND (upstream_fetch.state <> 'published' OR :again = 1) RETURNING {_COLUMNS}"
)
_FIND = Statement(f"{_SELECT} WHERE mirror = :mirror AND key = :key")
_FIND_MANY = Statement(f"{_SELECT} WHERE key IN :keys", expanding="keys")
_ADVANCE = Statement(
    'UPDATE upstream_fetch SET "offset" = :offset, edition = edition + :anew, upload_id = :upload_id,'
    " driver_state = :note, tail = :tail, size = :size, etag = :etag, media_type = :media_type,"
    " fails = 0, error = NULL, retry_at = NULL, clock = clock_name(), deadline = clock_now() + :seconds,"
    ' touched_at = clock_now() WHERE id = :id AND epoch = :epoch AND "offset" = :before'
)
_RENEW = Statement(
    "UPDATE upstream_fetch SET clock = clock_name(), deadline = clock_now() + :seconds, touched_at = clock_now()"
    " WHERE holder = :holder AND id IN :fetches RETURNING id",
    expanding="fetches",
)
_MINE = "WHERE id = :id AND epoch = :epoch AND state = 'active'"
_PAUSE = "CASE WHEN :pause > 0 THEN clock_now() + :pause ELSE NULL END"
_RELEASE = Statement(
    "UPDATE upstream_fetch SET holder = NULL, fails = :fails, error = :error, clock = clock_name(),"  # noqa: S608 - as above
    f" touched_at = clock_now(), retry_at = {_PAUSE} {_MINE}"
)
_NOTHING_KEPT = "upload_id = NULL, driver_state = '', tail = NULL"
_FAIL = Statement(
    f"UPDATE upstream_fetch SET state = 'failed', holder = NULL, {_NOTHING_KEPT}, \"offset\" = 0, error = :error,"  # noqa: S608 - as above
    f" clock = clock_name(), touched_at = clock_now(), retry_at = {_PAUSE} {_MINE}"
)
_FINISH = Statement(
    f"UPDATE upstream_fetch SET state = 'published', holder = NULL, {_NOTHING_KEPT}, \"offset\" = :size,"  # noqa: S608 - as above
    " size = :size, error = NULL, retry_at = NULL, clock = clock_name(), touched_at = clock_now()"
    " WHERE id = :id AND epoch = :epoch"
)
_EXPIRED = Statement(
    f"SELECT {_COLUMNS} FROM upstream_fetch WHERE {_IS_OTHER_CLOCK}"  # noqa: S608 - as above
    " OR (touched_at < clock_now() - :seconds AND (holder IS NULL OR deadline < clock_now())) LIMIT 1000"
)
_REMOVE = Statement("DELETE FROM upstream_fetch WHERE id = :id AND epoch = :epoch")


class FetchRow(NamedTuple):
    """A fetch."""

    id: int
    mirror: str
    key: str
    repository: str
    state: str
    epoch: int
    """Raised by each leader."""
    edition: int
    """Raised whenever it begins anew: what came in an earlier one may be other bytes."""
    holder: str | None
    """The process that leads it; None if none does."""
    size: int | None
    """Bytes of the whole; None while the upstream has not said it."""
    etag: str | None
    media_type: str | None
    offset: int
    """Bytes that every process can read."""
    upload_id: str | None
    note: str
    """What the driver has to know of the upload."""
    tail: bytes | None
    fails: int
    """Leaders in a row that brought nothing."""
    error: str | None
    """Why the last of them gave up."""
    retry_left: float | None
    """Seconds for which no process may lead it; None if it is not paused."""
    is_free: int
    """1 where a process may lead it now."""


class Wanted(NamedTuple):
    """What is to be fetched."""

    mirror: str
    kind: str
    key: str
    """The digest of a blob."""
    repository: str
    """The one whose client wants it."""


class Kept(NamedTuple):
    """What a leader has kept, and what it was told of the whole."""

    offset: int
    upload_id: str
    note: str
    tail: bytes
    size: int | None
    etag: str | None
    media_type: str | None


def claim(
    connection: Transaction, wanted: Wanted, *, holder: str, seconds: float, dead: str = "", again: bool = False
) -> FetchRow | None:
    """Lead a fetch for so long: a new one, or one that no process leads. The row; None if another process leads it.

    ``dead`` is a holder that is known to be dead, whatever its deadline. A fetch that was published is one that no
    process leads only ``again``: where its blob is found to be gone. The pause of one that failed is for its
    repository alone: the upstream may have the blob in another one.

    One that goes on has its bytes, which the new leader hashes. Otherwise the upload that is left is the new leader's
    to discard, and the offset is 0.
    """
    values = {**wanted._asdict(), "holder": holder, "seconds": float(seconds), "dead": dead, "again": int(again)}
    return connection.execute(_CLAIM, values).first_as(FetchRow).get()


def find(connection: Transaction, mirror: str, key: str) -> Later[FetchRow | None]:
    """The fetch, or None."""
    return connection.execute(_FIND, {"mirror": mirror, "key": key}).first_as(FetchRow)


def find_many(connection: Transaction, keys: Sequence[str]) -> list[FetchRow]:
    """The fetches of these keys, whatever their mirrors."""
    found = [connection.execute(_FIND_MANY, {"keys": part}).all_as(FetchRow) for part in batches(keys)]
    return [row for rows in found for row in rows.get()]


def advance(
    connection: Transaction, fetch_id: int, kept: Kept, *, epoch: int, before: int, seconds: float, anew: bool = False
) -> bool:
    """Move a fetch that this epoch leads from ``before`` to what is kept, and go on leading it for so long.

    ``anew``: these are the first bytes of another edition. False if another process leads it, or it is gone.
    """
    values = {**kept._asdict(), "tail": kept.tail or None, "id": fetch_id, "epoch": epoch, "before": before}
    given = {"seconds": float(seconds), "anew": int(anew)}
    return bool(connection.execute(_ADVANCE, {**values, **given}).rowcount)


def renew(connection: Transaction, ids: Sequence[int], *, holder: str, seconds: float) -> set[int]:
    """Go on leading these fetches for so long. Those that ``holder`` leads no more are not among the result."""
    held: set[int] = set()
    for part in batches(ids):
        rows = connection.execute(_RENEW, {"fetches": part, "holder": holder, "seconds": float(seconds)})
        held.update(row[0] for row in rows.all())
    return held


def release(
    connection: Transaction, fetch_id: int, *, epoch: int, error: str | None = None, pause: float = 0.0, fails: int = 0
) -> bool:
    """Lead a fetch no more, and keep its bytes: the next leader goes on, after ``pause`` seconds.

    False as above, and where it was published.
    """
    values = {"id": fetch_id, "epoch": epoch, "error": error, "pause": float(pause), "fails": fails}
    return bool(connection.execute(_RELEASE, values).rowcount)


def fail(connection: Transaction, fetch_id: int, *, epoch: int, error: str, pause: float) -> bool:
    """End a fetch whose bytes are of no use; the next one begins after ``pause`` seconds. False as above.

    The caller discards the upload.
    """
    values = {"id": fetch_id, "epoch": epoch, "error": error, "pause": float(pause)}
    return bool(connection.execute(_FAIL, values).rowcount)


def finish(connection: Transaction, fetch_id: int, *, epoch: int, size: int) -> Later[bool]:
    """End a fetch, in the transaction that makes its blob a member. False as above: then nothing may be committed."""
    values = {"id": fetch_id, "epoch": epoch, "size": size}
    return connection.execute(_FINISH, values).later(lambda rows: bool(rows.rowcount))


def expired(connection: Transaction, *, seconds: float) -> Later[list[FetchRow]]:
    """Fetches that no process has touched for so long, or since the machine was started; at most 1,000."""
    return connection.execute(_EXPIRED, {"seconds": float(seconds)}).all_as(FetchRow)


def remove(connection: Transaction, fetch_id: int, *, epoch: int) -> bool:
    """Forget a fetch, unless another process has begun to lead it: False then."""
    return bool(connection.execute(_REMOVE, {"id": fetch_id, "epoch": epoch}).rowcount)
