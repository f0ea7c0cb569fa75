"""Revision: which schema a database has, and which one it tells the releases before this one.

Releases up to schema 0004 read ``alembic_version`` alone and start only if they know what stands there. A revision
that only adds (tables, columns with a default) stops none of them, so it is noted in a table of its own, and
``alembic_version`` keeps the newest revision without which a release cannot work: ``FLOOR``.

Tests: ``tests/database/test_schema.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, inspect, select

if TYPE_CHECKING:
    from sqlalchemy import Connection

FLOOR: Final = "0004"
"""The newest revision that did more than add: a release that does not know it must not start. Such a one raises it."""
TABLE: Final = "schema_revision"
"""Where alembic notes the revision that the database has."""


def _as_alembic_makes_it(name: str) -> Table:
    number = Column("version_num", String(32), nullable=False)
    return Table(name, MetaData(), number, PrimaryKeyConstraint("version_num", name=f"{name}_pkc"))


_current: Final = _as_alembic_makes_it(TABLE)
_floor: Final = _as_alembic_makes_it("alembic_version")
"""Where every release looks whether it may start."""


class Revision(NamedTuple):
    """What a database says of its schema."""

    current: str | None
    """The revision that it has; None for an empty database."""
    floor: str | None
    """The oldest revision that a release has to know; None for an empty database."""


def read(connection: Connection) -> Revision:
    """Read both. A database that only releases up to 0004 have seen has one number for them."""
    tables = inspect(connection).get_table_names()
    floor = _number(connection, _floor) if _floor.name in tables else None
    return Revision(_number(connection, _current) if TABLE in tables else floor, floor)


def begin(connection: Connection) -> None:
    """Make the table that alembic notes revisions in, with the revision of a database that lacks it."""
    if not inspect(connection).has_table(TABLE):
        _set(connection, _current, read(connection).current)


def note(connection: Connection, current: str) -> None:
    """Note the revision of a database whose tables were made at once."""
    _set(connection, _current, current)
    tell(connection)


def tell(connection: Connection) -> None:
    """Let every release read the floor, or the revision itself where that is lower."""
    current = read(connection).current
    _set(connection, _floor, None if current is None else min(current, FLOOR))


def _set(connection: Connection, table: Table, revision: str | None) -> None:
    table.create(connection, checkfirst=True)
    connection.execute(table.delete())
    if revision is not None:
        connection.execute(table.insert().values(version_num=revision))


def _number(connection: Connection, table: Table) -> str | None:
    return connection.execute(select(table.c.version_num)).scalar()
