"""Transactions on PostgreSQL: statements go to libpq as they are, prepared once for each connection.

A cursor of psycopg works out what each value and each column could be, every time: more work than the server's.

Tests: ``tests/database/test_transaction.py``, ``tests/database/postgresql/test_pipeline.py``.
"""

from __future__ import annotations

import contextlib
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import pq
from psycopg.errors import Error, InFailedSqlTransaction

from registry.database.postgresql.pipeline import GOOD, Form, Pipeline
from registry.database.transaction import Later, Rows, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg.pq.abc import PGresult

    from registry.database.postgresql.pipeline import Sent
    from registry.database.statement import Statement
    from registry.database.transaction import Row

    Dump = Callable[[Any], bytes | None]
    Load = Callable[[bytes], Any]

T = TypeVar("T")

_UNKNOWN, _BOOL, _BYTEA, _NAME, _INT8, _INT2, _INT4, _TEXT, _FLOAT8, _VARCHAR = 0, 16, 17, 19, 20, 21, 23, 25, 701, 1043
_DOUBLE = struct.Struct("!d")


def _load_int(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _load_double(value: bytes) -> float:
    number: float = _DOUBLE.unpack(value)[0]
    return number


_TYPES: dict[type, tuple[int, pq.Format, Dump]] = {
    str: (_UNKNOWN, pq.Format.TEXT, str.encode),
    type(None): (_UNKNOWN, pq.Format.TEXT, lambda _: None),
    bool: (_BOOL, pq.Format.BINARY, lambda value: b"\x01" if value else b"\x00"),
    bytes: (_BYTEA, pq.Format.BINARY, bytes),
    int: (_INT8, pq.Format.BINARY, lambda value: value.to_bytes(8, "big", signed=True)),
    float: (_FLOAT8, pq.Format.BINARY, _DOUBLE.pack),
}
"""What the server is told that a value is; what text and NULL are it finds out by itself."""
_LOAD: dict[int, Load] = {
    _BOOL: lambda value: value == b"\x01",
    _BYTEA: bytes,
    _INT8: _load_int,
    _INT2: _load_int,
    _INT4: _load_int,
    _FLOAT8: _load_double,
    **dict.fromkeys((_UNKNOWN, _NAME, _TEXT, _VARCHAR), bytes.decode),
}
"""How a column is read. One of another type needs its line here."""


class PostgresqlTransaction(Transaction):
    """See Transaction. Nothing waits for the server but a result that is read, ``commit`` and ``settle``."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def execute(self, statement: Statement, values: Mapping[str, Any]) -> Rows:
        """See Transaction."""
        sql, given = statement.numbered(values)
        return self._send(sql, given)

    def execute_many(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """See Transaction."""
        for row in rows:
            self.execute(statement, row)

    def run(self, sql: str) -> None:
        """See Transaction."""
        self._send(sql, ())

    def commit(self) -> None:
        """See Transaction."""
        done = self._send("COMMIT", ())
        if done.status != "COMMIT":  # an error that was raised before, and that a caller has swallowed
            raise InFailedSqlTransaction(f"the transaction could not be committed: {done.status}")

    def roll_back(self) -> None:
        """See Transaction."""
        with contextlib.suppress(Error):  # what failed is undone with the rest; a lost connection shows next
            self._pipeline.settle()
        self._send("ROLLBACK", ())
        self._pipeline.settle()

    def settle(self) -> None:
        """See Transaction."""
        self._pipeline.settle()

    def close(self) -> None:
        """Hold nothing."""

    def _send(self, sql: str, given: Sequence[Any]) -> _PostgresqlRows:
        kinds = tuple([type(value) for value in given])
        shape = _SHAPES.get((sql, kinds))
        if shape is None:
            shape = _SHAPES[sql, kinds] = _Shape(sql, kinds)
        values = [dump(value) for dump, value in zip(shape.dumps, given, strict=True)]
        return _PostgresqlRows(self._pipeline, self._pipeline.send(shape.form, values))


class _Shape:
    """A statement, and how values of these types are sent with it."""

    __slots__ = ("dumps", "form")

    def __init__(self, sql: str, kinds: tuple[type, ...]) -> None:
        known = [_TYPES[_kind(kind)] for kind in kinds]
        self.dumps = [dump for _, _, dump in known]
        self.form = Form(sql, [number for number, _, _ in known], [form for _, form, _ in known])


_SHAPES: dict[tuple[str, tuple[type, ...]], _Shape] = {}


class _PostgresqlRows(Rows):
    """See Rows; a result that has not arrived yet is waited for when it is read."""

    def __init__(self, pipeline: Pipeline, sent: Sent) -> None:
        self._pipeline = pipeline
        self._sent = sent
        self._next = 0

    @property
    def rowcount(self) -> int:
        """See Rows."""
        return self._result().command_tuples or 0

    @property
    def status(self) -> str:
        """What the server says that it has done."""
        return (self._result().command_status or b"").decode()

    def first(self) -> Row | None:
        """See Rows."""
        result = self._result()
        return _row(result, 0, _loads(result)) if result.ntuples else None

    def all(self) -> list[Row]:
        """See Rows."""
        result = self._result()
        loads = _loads(result)
        return [_row(result, number, loads) for number in range(result.ntuples)]

    def later(self, read: Callable[[Rows], T]) -> Later[T]:
        """See Rows."""
        return Later(partial(read, self))

    def _result(self) -> PGresult:
        if self._sent.result is None:
            self._pipeline.settle()
        result = self._sent.result
        if result is None or result.status not in GOOD:
            raise InFailedSqlTransaction("the statement did not run")
        return result


def _loads(result: PGresult) -> list[Load]:
    return [_LOAD[result.ftype(column)] for column in range(result.nfields)]


def _row(result: PGresult, number: int, loads: list[Load]) -> Row:
    get = result.get_value
    return tuple([None if (value := get(number, column)) is None else load(value) for column, load in enumerate(loads)])


def _kind(kind: type) -> type:
    """The type that we know of, by one that may be derived from it."""
    if issubclass(kind, (bytearray, memoryview)):
        return bytes
    return next(known for known in _TYPES if issubclass(kind, known))
