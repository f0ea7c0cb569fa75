"""A transaction: statements in, rows out, on a DBAPI connection.

SQLAlchemy has compiled each statement at its first use in the process, keeps the connections and runs the migrations;
it executes nothing here (see ``registry.database.statement``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Dialect

    from registry.database.statement import Statement

Row = tuple[Any, ...]


class Rows:
    """What a statement returned. Read it before the next statement of the transaction."""

    def __init__(self, cursor: Any) -> None:  # noqa: ANN401 - a DBAPI cursor
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        """Rows that the statement changed."""
        count: int = self._cursor.rowcount
        return count

    def first(self) -> Row | None:
        """The first row, or None."""
        row: Row | None = self._cursor.fetchone()
        return row

    def one(self) -> Row:
        """The first row of a statement that has one. Raises LookupError."""
        row = self.first()
        if row is None:
            raise LookupError("the statement returned no row")
        return row

    def scalars(self) -> Iterator[Any]:
        """The first column."""
        return (row[0] for row in self._cursor.fetchall())

    def __iter__(self) -> Iterator[Row]:
        return iter(self._cursor.fetchall())


class Transaction:
    """Runs statements on one connection. For one thread; begun and ended by ``Database``."""

    def __init__(self, connection: Any, dialect: Dialect) -> None:  # noqa: ANN401 - a DBAPI connection
        self._cursor = connection.cursor()
        self._dialect = dialect

    def execute(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        """Run a statement."""
        sql, parameters = statement.compile(self._dialect, values)
        self._cursor.execute(sql, parameters)
        return Rows(self._cursor)

    def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement that returns nothing for each of ``rows``."""
        if rows:
            sql, _ = statement.compile(self._dialect, rows[0])
            self._cursor.executemany(sql, rows)

    def run(self, sql: str) -> None:
        """Run a command of the dialect, without values."""
        self._cursor.execute(sql)

    def close(self) -> None:
        """Free the cursor."""
        self._cursor.close()
