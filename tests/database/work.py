"""*Work*: what a statement costs a database, in a number that does not depend on what else the machine does."""

from __future__ import annotations

import re
from collections.abc import Mapping

from registry.database.engine import Database
from registry.database.statement import Statement

STEPS = 10
"""Instructions of SQLite between two counts."""


def work(database: Database, statement: Statement, values: Mapping[str, object]) -> int:
    """Instructions of SQLite, or rows that PostgreSQL has looked at."""
    return _instructions(database, statement, values) if database.is_sqlite else _rows(database, statement, values)


def analyze(database: Database) -> None:
    """Have PostgreSQL know how large its tables are."""
    if not database.is_sqlite:
        with database.autocommit() as connection:
            connection.run("ANALYZE")


def _instructions(database: Database, statement: Statement, values: Mapping[str, object]) -> int:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += STEPS

    with database.autocommit() as connection:
        connection._cursor.connection.set_progress_handler(count, STEPS)
        connection.execute(statement, values).all()
        connection._cursor.connection.set_progress_handler(None, STEPS)
    return steps


def _rows(database: Database, statement: Statement, values: Mapping[str, object]) -> int:
    explained = Statement(f"EXPLAIN (ANALYZE, TIMING OFF) {statement._sql}")
    with database.autocommit() as connection:
        plan = "\n".join(row[0] for row in connection.execute(explained, values).all())
    returned = re.findall(r"actual rows=([\d.]+) loops=(\d+)", plan)
    removed = re.findall(r"Rows Removed by [\w ]+: (\d+)", plan)
    return int(sum(float(rows) * int(loops) for rows, loops in returned)) + sum(map(int, removed))
