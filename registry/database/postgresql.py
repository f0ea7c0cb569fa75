"""Transactions on PostgreSQL: statements go to libpq as they are, prepared once for each connection.

A cursor of psycopg works out what each value and each column could be, every time: more work than the server's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import pq
from psycopg.errors import error_from_result

from registry.database.transaction import Rows, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult
    from sqlalchemy import Dialect

    from registry.database.statement import Statement
    from registry.database.transaction import Row

    Prepared = dict[tuple[str, tuple[type, ...]], bytes]
    """Names of prepared statements, by their text and the types of their values."""

_UNKNOWN, _BOOL, _BYTEA, _INT8, _INT2, _INT4, _FLOAT8 = 0, 16, 17, 20, 21, 23, 701
_TYPES: dict[type, int] = {str: _UNKNOWN, type(None): _UNKNOWN, bool: _BOOL, bytes: _BYTEA, int: _INT8, float: _FLOAT8}
"""What the server is told that a value is; what text and NULL are it finds out by itself."""
_DUMP: dict[type, Callable[[Any], bytes | None]] = {
    str: str.encode,
    type(None): lambda _: None,
    bool: lambda value: b"t" if value else b"f",
    bytes: bytes,
    int: lambda value: b"%d" % value,
    float: lambda value: repr(value).encode(),
}
_LOAD: dict[int, Callable[[bytes], Any]] = {
    _BOOL: lambda value: value == b"t",
    _BYTEA: lambda value: bytes.fromhex(value[2:].decode()),
    _INT8: int,
    _INT2: int,
    _INT4: int,
    _FLOAT8: float,
}
_GOOD = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK})


class PostgresqlTransaction(Transaction):
    """See Transaction."""

    def __init__(self, connection: Connection[Any], dialect: Dialect, prepared: Prepared) -> None:
        """``prepared`` is what this connection has prepared before; it is added to."""
        self._connection = connection
        self._dialect = dialect
        self._prepared = prepared
        self._server: PGconn = connection.pgconn

    def execute(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        """See Transaction."""
        sql, given = statement.numbered(values)
        kinds = tuple([_KINDS[type(value)] for value in given])
        name = self._prepared.get((sql, kinds)) or self._prepare(sql, kinds)
        parameters: list[Any] = [_DUMP[kind](value) for kind, value in zip(kinds, given, strict=True)]
        formats = [pq.Format.BINARY if kind is bytes else pq.Format.TEXT for kind in kinds]
        return Rows(_Result(self._checked(self._server.exec_prepared(name, parameters, formats))))

    def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """See Transaction. Here psycopg is the faster one: it sends all of them before it waits."""
        if rows:
            sql, _ = statement.compile(self._dialect, rows[0])
            with self._connection.cursor() as cursor:
                cursor.executemany(sql, rows)

    def run(self, sql: str) -> None:
        """See Transaction."""
        self._checked(self._server.exec_(sql.encode()))

    def close(self) -> None:
        """Hold nothing."""

    def _prepare(self, sql: str, kinds: tuple[type, ...]) -> bytes:
        name = b"s%d" % len(self._prepared)
        self._checked(self._server.prepare(name, sql.encode(), [_TYPES[kind] for kind in kinds]))
        self._prepared[sql, kinds] = name
        return name

    def _checked(self, result: PGresult) -> PGresult:
        """Raises what psycopg raises."""
        if result.status not in _GOOD:
            raise error_from_result(result)
        return result


class _Result:
    """Rows as a cursor of the DBAPI gives them."""

    def __init__(self, result: PGresult) -> None:
        self._result = result
        self._next = 0

    @property
    def rowcount(self) -> int:
        return self._result.command_tuples or 0

    def fetchone(self) -> Row | None:
        if self._next >= self._result.ntuples:
            return None
        self._next += 1
        return self._row(self._next - 1, self._loaders())

    def fetchall(self) -> list[Row]:
        loaders = self._loaders()
        rows = [self._row(number, loaders) for number in range(self._next, self._result.ntuples)]
        self._next = self._result.ntuples
        return rows

    def _loaders(self) -> list[Callable[[bytes], Any]]:
        result = self._result
        return [_LOAD.get(result.ftype(column), bytes.decode) for column in range(result.nfields)]

    def _row(self, number: int, loaders: list[Callable[[bytes], Any]]) -> Row:
        get = self._result.get_value
        return tuple(
            [None if (value := get(number, column)) is None else load(value) for column, load in enumerate(loaders)]
        )


class _Kinds(dict[type, type]):
    """The type that we know of, by one that may be derived from it."""

    def __missing__(self, kind: type) -> type:
        buffer = issubclass(kind, (bytearray, memoryview))
        self[kind] = known = bytes if buffer else next(base for base in _TYPES if issubclass(kind, base))
        return known


_KINDS = _Kinds()
