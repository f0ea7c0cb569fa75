"""A statement that fails: the error that a database raises, in the place of the statement with a number."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from registry.database.postgresql.transaction import PostgresqlTransaction
from registry.database.statement import Statement
from registry.database.transaction import Rows, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FAILS = Statement("SELECT 1 / 0")


@contextmanager
def failing(number: int) -> Iterator[list[int]]:
    """The statement of this number fails, on PostgreSQL at the server; what is yielded counts all."""
    count = [0]

    def patched(kind: type[Transaction]) -> Any:
        execute = kind.execute

        def fail(transaction: Transaction, statement: Statement, values: Mapping[str, Any]) -> Rows:
            count[0] += 1
            if count[0] != number:
                return execute(transaction, statement, values)
            if kind is PostgresqlTransaction:
                return execute(transaction, _FAILS, {})
            raise sqlite3.OperationalError("injected")

        return patch.object(kind, "execute", fail)

    with ExitStack() as patches:
        for kind in (Transaction, PostgresqlTransaction):
            patches.enter_context(patched(kind))
        yield count
