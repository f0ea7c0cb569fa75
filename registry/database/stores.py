"""Rows about stores as wholes: whether changes may commit, and what has been reached once.

Tests: ``tests/database/test_exclusive.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Rows, Transaction

OPEN = "open"
READ_ONLY = "read-only"


class StoreRow(NamedTuple):
    """A storage, by the name of its driver."""

    name: str
    migration: str | None
    """The newest that its journal has; None for none."""
    revision: int
    """The revision of that migration's state, as the rows of its locations have it."""
    mode: str
    """OPEN or READ_ONLY."""
    reason: str | None
    """The reason of READ_ONLY, for clients."""
    prefixes: tuple[str, ...]
    """Below which no repository is made."""
    looked_at: float
    """Seconds since the epoch."""


_COLUMNS = "name, migration, revision, mode, reason, prefixes, looked_at"
_FIND = Statement(f"SELECT {_COLUMNS} FROM store WHERE name = :name")  # noqa: S608 - constant columns
_PUT = Statement(
    f"INSERT INTO store ({_COLUMNS})"  # noqa: S608 - constant columns
    " VALUES (:name, :migration, :revision, :mode, :reason, :prefixes, :looked_at)"
    " ON CONFLICT (name) DO UPDATE SET migration = excluded.migration, revision = excluded.revision,"
    " mode = excluded.mode, reason = excluded.reason, prefixes = excluded.prefixes, looked_at = excluded.looked_at"
)


def find(connection: Transaction, name: str) -> Later[StoreRow | None]:
    """What is known of a store; None if no process has looked there for this database: then nothing may be written."""
    return connection.execute(_FIND, {"name": name}).later(_row)


def put(connection: Transaction, row: StoreRow) -> None:
    """Note what is known of a store. Where that changes its mode: in a transaction of ``Database.exclusive``."""
    connection.execute(_PUT, {**row._asdict(), "prefixes": "\n".join(row.prefixes)})


def _row(rows: Rows) -> StoreRow | None:
    row = rows.first()
    if row is None:
        return None
    name, migration, revision, mode, reason, prefixes, looked_at = row
    return StoreRow(name, migration, revision, mode, reason, tuple(prefixes.splitlines()), looked_at)


STORAGE_READ = "storage-read"
"""Every repository that storage had was read into this database."""
PULLS_SINCE = "pulls-since"
"""Since then no pull of a manifest was missed, as far as processes know that count them."""
RETENTION_RUN = "retention-run"
"""When the last scheduled run of retention began."""
COLLECTION_RUN = "collection-run"
"""When the last scheduled collection began."""
COLLECTION_LOOK = "collection-look"
"""When a collection last compared all repositories with storage."""
USAGE_COUNT = "usage-count"
"""When the last count of usage for metrics began."""
SCRUB_BEGAN = "scrub-began"
"""When the present round of scrubbing began, or the last one."""
SCRUB_ENDED = "scrub-ended"
"""When the last round of scrubbing ended: the present one goes on if it began later."""

_REACHED = Statement("SELECT 1 FROM milestone WHERE name = :name")
_REACH = Statement("INSERT INTO milestone (name, reached_at) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING")
_REACHED_AT = Statement("SELECT reached_at FROM milestone WHERE name = :name")
_MOVE = Statement(
    "INSERT INTO milestone (name, reached_at) VALUES (:name, :now) ON CONFLICT (name) DO UPDATE"
    " SET reached_at = excluded.reached_at WHERE excluded.reached_at > milestone.reached_at"
)
_SET = Statement(
    "INSERT INTO milestone (name, reached_at) VALUES (:name, :now)"
    " ON CONFLICT (name) DO UPDATE SET reached_at = excluded.reached_at"
)

_FORGET = Statement("DELETE FROM milestone WHERE name = :name")


def is_reached(connection: Transaction, name: str) -> Later[bool]:
    """Whether it was."""
    return connection.execute(_REACHED, {"name": name}).later(lambda rows: rows.first() is not None)


def reach(connection: Transaction, name: str, *, now: float) -> None:
    """Note that it was."""
    connection.execute(_REACH, {"name": name, "now": now})


def forget(connection: Transaction, name: str) -> None:
    """It was never reached."""
    connection.execute(_FORGET, {"name": name})


def reached_at(connection: Transaction, name: str) -> Later[float | None]:
    """When it was, in seconds since the epoch; None if it was not."""
    return connection.execute(_REACHED_AT, {"name": name}).first_as(float)


def set_reached(connection: Transaction, name: str, *, now: float) -> None:
    """As ``move``, and also back: a clock that was ahead says nothing of when something is due."""
    connection.execute(_SET, {"name": name, "now": now})


def move(connection: Transaction, name: str, *, now: float) -> None:
    """Note that it is reached now and not before."""
    connection.execute(_MOVE, {"name": name, "now": now})
