"""The row of collection: the name of this database on its storage, its last run, and the former releases beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database import stores
from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

NEW = "new"
"""The storage was empty when this database met it."""
FOUND = "found"
"""The storage had content, which this database has to be rebuilt from before anything is collected."""
EARLIER = "earlier"
"""An earlier release, or another tool, wrote what the storage has."""
DROPPED = 500
"""Rows of ``doomed`` that one transaction drops at most."""


class CollectionRow(NamedTuple):
    """What this database knows of collection as a whole."""

    database_id: str | None = None
    """As ``.gc/state.json`` names this database; None if it has not met its storage yet."""
    origin: str | None = None
    """NEW, FOUND or EARLIER; None before the database has met its storage."""
    run: int = 0
    """The number of the last run, as storage has it."""
    intended: int = 0
    """The number of the run that was about to be written there last: its process may have been killed."""
    former_holder: str | None = None
    """The process of a former release that was seen last."""
    former_at: float | None = None
    """When that was, by the clock of the database."""
    former_ago: float | None = None
    """Seconds since then."""
    dropped_at: float | None = None
    """The sighting for which rows of ``doomed`` were dropped last."""


_FIND = Statement(
    "SELECT database_id, origin, run, intended, former_holder, former_at, wall_now() - former_at, dropped_at"
    " FROM collection_state WHERE id = 1"
)
_ADOPT = Statement(
    "INSERT INTO collection_state (id, database_id, origin, run, intended) VALUES (1, :database_id, :origin, 0, 0)"
    " ON CONFLICT (id) DO UPDATE SET database_id = excluded.database_id, origin = excluded.origin"
    " WHERE collection_state.database_id IS NULL"
)
_INTEND = Statement(
    "UPDATE collection_state SET intended = :number WHERE id = 1 AND run = :run AND intended = :intended"
)
_BEGIN = Statement("UPDATE collection_state SET run = :number WHERE id = 1 AND intended = :number")
_TAKE_OVER = Statement(
    "UPDATE collection_state SET run = :number, intended = :number, origin = :origin WHERE id = 1"
    " AND run = :run AND intended = :intended"
)
_STALE = Statement(
    "SELECT d.repository_id, d.blob_id FROM doomed d WHERE d.since <= :seen LIMIT :count FOR UPDATE SKIP LOCKED",
    sqlite=(" FOR UPDATE SKIP LOCKED", ""),
)
_DROP = Statement("DELETE FROM doomed WHERE repository_id = :repository AND blob_id = :blob")
_IS_STALE = Statement("SELECT 1 FROM doomed WHERE since <= :seen LIMIT 1")
_DROPPED = Statement("UPDATE collection_state SET dropped_at = :seen WHERE id = 1")
_SERVER = (
    "CAST(pg_postmaster_start_time() AS text) || ' ' || CAST(pg_relation_filenode('repository') AS text)"
    " || ' ' || (SELECT CAST(d.oid AS text) FROM pg_database d WHERE d.datname = current_database())"
)
_INSTANCE = Statement(f"SELECT {_SERVER}", sqlite=(_SERVER, "NULL"))
_MARK = Statement(
    "SELECT CAST(xmin AS text) FROM milestone WHERE name = :name",
    sqlite=("SELECT CAST(xmin AS text) FROM milestone WHERE name = :name", "SELECT NULL WHERE :name IS NULL"),
)
_NOW = Statement("SELECT wall_now()")


def find(connection: Transaction) -> Later[CollectionRow]:
    """The row, or what it says before it is made."""
    return connection.execute(_FIND, {}).later(
        lambda rows: CollectionRow(*row) if (row := rows.first()) else CollectionRow()
    )


def adopt(connection: Transaction, database_id: str, origin: str) -> None:
    """Give this database its name, unless it has one."""
    connection.execute(_ADOPT, {"database_id": database_id, "origin": origin})


def intend(connection: Transaction, row: CollectionRow, number: int) -> bool:
    """Say that storage is about to have this number. False if the row has changed since it was read."""
    values = {"number": number, "run": row.run, "intended": row.intended}
    return bool(connection.execute(_INTEND, values).rowcount)


def begin(connection: Transaction, number: int) -> bool:
    """Say that storage has this number. False if another run is about to begin."""
    return bool(connection.execute(_BEGIN, {"number": number}).rowcount)


def take_over(connection: Transaction, row: CollectionRow, number: int, origin: str) -> bool:
    """Say that storage, which was read whole, has this number. False if the row has changed since it was read."""
    values = {"number": number, "run": row.run, "intended": row.intended, "origin": origin}
    return bool(connection.execute(_TAKE_OVER, values).rowcount)


def drop_doomed(connection: Transaction, *, seen: float) -> tuple[int, bool]:
    """Drop rows of ``doomed`` from before a former release was seen. How many went, and whether there may be more.

    What they say may have stopped being true and become true again since, without a trace. A row that another
    transaction has in hand is passed over, since the triggers of a client's transaction remove rows in any order.
    """
    rows = connection.execute(_STALE, {"seen": seen, "count": DROPPED}).all()
    connection.execute_many(_DROP, [{"repository": repository, "blob": blob} for repository, blob in rows])
    is_more = len(rows) == DROPPED or connection.execute(_IS_STALE, {"seen": seen}).first() is not None
    if not is_more:
        connection.execute(_DROPPED, {"seen": seen})
    return len(rows), is_more


def instance(connection: Transaction) -> str | None:
    """What differs after a copy of the database was restored, or another server took over; None if nothing says so."""
    found: str | None = connection.execute(_INSTANCE, {}).one()[0]
    return found


def mark(connection: Transaction) -> str | None:
    """The transaction that has written the row of the last look; None if there is none, or nothing says so.

    Rows that are restored have another one, also where the server and its files stay the same.
    """
    return connection.execute(_MARK, {"name": stores.COLLECTION_LOOK}).first_as(str).get()


def put_mark(connection: Transaction) -> str | None:
    """Note a look, and return the ``mark`` of this transaction."""
    stores.set_reached(connection, stores.COLLECTION_LOOK, now=now(connection))
    return mark(connection)


def now(connection: Transaction) -> float:
    """Seconds since the epoch, by the clock of the database."""
    moment: float = connection.execute(_NOW, {}).one()[0]
    return moment
