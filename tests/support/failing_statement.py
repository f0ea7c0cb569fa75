"""A statement that fails: the error that a database raises, in the place of the statement with a number."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from registry.database.transaction import Rows, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from registry.database.statement import Statement


@contextmanager
def failing(number: int) -> Iterator[list[int]]:
    """The statement of this number fails; what is yielded counts all."""
    count = [0]
    execute = Transaction.execute

    def fail(transaction: Transaction, statement: Statement, values: Mapping[str, Any]) -> Rows:
        count[0] += 1
        if count[0] == number:
            raise sqlite3.OperationalError("injected")
        return execute(transaction, statement, values)

    Transaction.execute = fail  # type: ignore[method-assign,assignment]
    try:
        yield count
    finally:
        Transaction.execute = execute  # type: ignore[method-assign]
