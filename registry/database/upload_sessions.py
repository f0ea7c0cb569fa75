"""Upload sessions: their rows, so that any worker can continue the upload of another.

Tests: ``tests/database/test_queries.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction


class SessionRow(NamedTuple):
    """An upload session."""

    id: str
    repository: str
    offset: int
    """Bytes received and kept."""
    algorithm: str
    digest: str | None
    """The digest of all bytes up to ``offset``, by ``algorithm``; None if no process has seen them all in order."""
    note: str
    """What the driver has to know of it."""
    tail: bytes | None
    """Its last bytes, where the driver does not keep them."""
    started_at: float
    """When the client began it (seconds since the epoch)."""
    is_noted: bool = True
    """There is a row of it; one that the store alone knows of has received nothing yet."""


COLUMNS = 's.id, s.repository, s."offset", s.algorithm, s.digest, s.driver_state, s.tail, s.started_at'
_ADD = Statement(
    'INSERT INTO upload_session (id, repository, "offset", algorithm, digest, driver_state, tail, started_at,'
    " updated_at, address)"
    " VALUES (:id, :repository, :offset, :algorithm, :digest, :note, :tail, :started, :now, :address)"
    " ON CONFLICT (id) DO NOTHING"
)
_FIND = Statement(f"SELECT {COLUMNS} FROM upload_session s WHERE s.id = :id")  # noqa: S608 - constant columns
_ADVANCE = Statement(
    'UPDATE upload_session SET "offset" = :offset, digest = :digest, driver_state = :note, tail = :tail,'
    " updated_at = :now"
    ' WHERE id = :id AND "offset" = :before'
)
_TOUCH = Statement('UPDATE upload_session SET updated_at = :now WHERE id = :id AND "offset" = :offset')
_REMOVE = Statement("DELETE FROM upload_session WHERE id = :id")
_EXPIRED = Statement(f"SELECT {COLUMNS} FROM upload_session s WHERE s.updated_at < :before LIMIT 1000")  # noqa: S608
_ANY_LIVE = Statement(
    "SELECT 1 FROM upload_session s WHERE s.repository = :repository AND s.updated_at >= :since"
    " UNION ALL SELECT 1 FROM repository r WHERE r.name = :repository AND r.uploaded_at >= :since LIMIT 1"
)
_ANY = Statement("SELECT 1 FROM upload_session s WHERE s.repository = :repository LIMIT 1")
_COUNT_BY_ADDRESS = Statement(
    "SELECT coalesce(address, ''), count(*) FROM upload_session WHERE substr(id, 15, 1) <> '7' GROUP BY 1"
)
_OLDEST = Statement(
    "SELECT updated_at, id FROM upload_session WHERE coalesce(address, '') = :address ORDER BY updated_at LIMIT :count"
)


def add(connection: Transaction, row: SessionRow, *, now: float, address: str = "") -> Later[bool]:
    """Give a session its row; ``address`` is whose it counts as. False if it has one."""
    values = {"id": row.id, "repository": row.repository, "offset": row.offset, "algorithm": row.algorithm}
    values |= {"started": row.started_at}
    digest = None if row.digest is None else str(row.digest)
    kept = {"digest": digest, "note": row.note, "tail": row.tail or None, "now": now, "address": address or None}
    return connection.execute(_ADD, {**values, **kept}).later(lambda rows: bool(rows.rowcount))


def find(connection: Transaction, session_id: str) -> Later[SessionRow | None]:
    """The session, or None."""
    return connection.execute(_FIND, {"id": session_id}).first_as(SessionRow)


def advance(
    connection: Transaction,
    session_id: str,
    *,
    before: int,
    offset: int,
    digest: str | None,
    note: str,
    tail: bytes,
    now: float,
) -> Later[bool]:
    """Move a session from ``before`` to ``offset``. False if it is gone or no longer at ``before``."""
    values = {"id": session_id, "before": before, "offset": offset, "digest": digest}
    kept = {"note": note, "tail": tail or None, "now": now}
    return connection.execute(_ADVANCE, {**values, **kept}).later(lambda rows: bool(rows.rowcount))


def touch(connection: Transaction, session_id: str, *, offset: int, now: float) -> bool:
    """Note that a client goes on with a session from ``offset``. False if it is gone or no longer at that offset."""
    return bool(connection.execute(_TOUCH, {"id": session_id, "offset": offset, "now": now}).rowcount)


def remove(connection: Transaction, session_id: str) -> None:
    """End a session; no error when there is none."""
    connection.execute(_REMOVE, {"id": session_id})


def expired(connection: Transaction, *, before: float) -> Later[list[SessionRow]]:
    """Sessions that no client has touched since ``before``, at most 1,000."""
    return connection.execute(_EXPIRED, {"before": before}).all_as(SessionRow)


def any_live(connection: Transaction, repository: str, *, since: float) -> Later[bool]:
    """Whether a client has gone on with a session of this repository, or ended one that took long, since then.

    A collector takes nothing from such a repository: a push may take longer than its leases, and what it was told is
    there is not named yet. ``since`` is a lease ago. A writer keeps its session alive; where sessions begin without a
    row it makes one then.
    """
    values = {"repository": repository, "since": since}
    return connection.execute(_ANY_LIVE, values).later(lambda rows: rows.first() is not None)


def any_open(connection: Transaction, repository: str) -> Later[bool]:
    """Whether this repository has a session with a row, however long ago a client went on with it."""
    return connection.execute(_ANY, {"repository": repository}).later(lambda rows: rows.first() is not None)


def count_by_address(connection: Transaction) -> Later[dict[str, int]]:
    """Open sessions with a row from their beginning, by address; those of no known address are under the empty one.

    Sessions whose ids are UUIDs of version 7 are counted by their files.
    """
    return connection.execute(_COUNT_BY_ADDRESS, {}).later(lambda rows: dict(rows.all()))


def oldest(connection: Transaction, address: str, *, count: int) -> Later[list[tuple[float, str]]]:
    """The sessions of an address that nothing was added to for the longest time, and since when."""
    return connection.execute(_OLDEST, {"address": address, "count": count}).later(
        lambda rows: [(row[0], row[1]) for row in rows.all()]
    )
