"""A transaction: statements in, rows out, on a DBAPI connection.

SQLAlchemy makes the connections and runs the migrations; it executes nothing here
(see ``registry.database.statement``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from registry.clocks import Clocks
    from registry.database.statement import Statement

Row = tuple[Any, ...]
T = TypeVar("T")


class Later(Generic[T]):
    """What rows say, for a caller that sends more statements before it reads them."""

    __slots__ = ("_get",)

    def __init__(self, get: Callable[[], T]) -> None:
        self._get = get

    def get(self) -> T:
        """Waits for the rows, where they have not come yet; also when the transaction has ended. Raises as they do."""
        return self._get()


class Known(Later[T]):
    """What rows say that have come already."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def get(self) -> T:
        """At once."""
        return self._value


class Rows(ABC):
    """What a statement returned. Read it before the next statement of the transaction, or keep it with ``later``.

    An error of the statement is raised at the latest when its rows are read; see ``Transaction``.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def rowcount(self) -> int:
        """Rows that the statement changed."""

    @abstractmethod
    def first(self) -> Row | None:
        """The first row, or None."""

    @abstractmethod
    def all(self) -> list[Row]:
        """Every row."""

    @abstractmethod
    def later(self, read: Callable[[Rows], T]) -> Later[T]:
        """What ``read`` makes of these rows, which is not waited for: more statements may be sent before it is got."""

    def one(self) -> Row:
        """The first row of a statement that has one. Raises LookupError."""
        row = self.first()
        if row is None:
            raise LookupError("the statement returned no row")
        return row

    def __iter__(self) -> Iterator[Row]:
        return iter(self.all())

    def first_as(self, kind: Callable[..., T]) -> Later[T | None]:
        """``kind`` of the columns of the first row, or None."""
        return self.later(lambda rows: kind(*row) if (row := rows.first()) else None)

    def one_as(self, kind: Callable[..., T]) -> Later[T]:
        """As ``first_as``, of a statement that returns a row. ``get`` raises LookupError."""
        return self.later(lambda rows: kind(*rows.one()))

    def all_as(self, kind: Callable[..., T]) -> Later[list[T]]:
        """``kind`` of the columns of each row."""
        return self.later(lambda rows: [kind(*row) for row in rows.all()])


class FetchedRows(Rows):
    """Rows that are here: those of a DBAPI cursor. Each push reads dozens, so that nothing is put off."""

    __slots__ = ("_cursor",)

    def __init__(self, cursor: Any) -> None:  # noqa: ANN401 - a DBAPI cursor
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        """See Rows."""
        count: int = self._cursor.rowcount
        return count

    def first(self) -> Row | None:
        """See Rows."""
        row: Row | None = self._cursor.fetchone()
        return row

    def all(self) -> list[Row]:
        """See Rows."""
        rows: list[Row] = self._cursor.fetchall()
        return rows

    def later(self, read: Callable[[Rows], T]) -> Later[T]:
        """See Rows."""
        return Known(read(self))

    def first_as(self, kind: Callable[..., T]) -> Later[T | None]:
        """See Rows."""
        row = self._cursor.fetchone()
        return Known(None if row is None else kind(*row))

    def all_as(self, kind: Callable[..., T]) -> Later[list[T]]:
        """See Rows."""
        return Known([kind(*row) for row in self._cursor.fetchall()])


class Transaction:
    """Runs statements on one connection, in their order. For one thread; begun and ended by ``Database``.

    Where the server is far a statement is sent and not waited for. So its error (a DBAPI error; DatabaseUnavailable
    outside of the block) is raised by itself, or by anything later: a statement, rows that are read, the end of the
    block. What follows the statement has no effect then, whatever the block does. No caller may catch the error inside
    of the block and go on.
    """

    def __init__(self, connection: Any, clocks: Clocks) -> None:  # noqa: ANN401 - a DBAPI connection
        """``clocks`` are those of this machine."""
        self._clocks = clocks
        self._cursor = connection.cursor()
        self._rows = FetchedRows(self._cursor)
        """What the last statement returned; what the ones before it returned has been read."""

    def execute(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        """Run a statement."""
        sql, given = statement.placed(values, self._clocks)
        self._cursor.execute(sql, given)
        return self._rows

    def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement that returns nothing for each of ``rows``."""
        if rows:
            sql, given = statement.placed_many(rows)
            self._cursor.executemany(sql, given)

    def run(self, sql: str) -> None:
        """Run a command of the dialect, without values."""
        self._cursor.execute(sql)

    def commit(self) -> None:
        """Make it last; nothing is under way any more. Raises what any of its statements still has to raise."""
        self.run("COMMIT")

    def roll_back(self) -> None:
        """Undo it; nothing is under way any more. Raises a DBAPI error when the connection is of no more use."""
        self.run("ROLLBACK")

    def settle(self) -> None:
        """Wait until every statement has run. Raises what any of them still has to raise."""

    def close(self) -> None:
        """Free the cursor."""
        self._cursor.close()
