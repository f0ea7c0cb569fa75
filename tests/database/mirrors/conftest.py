"""Two processes over one database, and moments that pass when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from registry.database.engine import Database
from registry.database.statement import Statement

T = TypeVar("T")

MOMENTS = {
    "mirror_tag": ("checked_at", "next_at", "gone_at"),
    "mirror_state": ("paused_until", "next_at", "failed_at"),
    "remote_miss": ("until",),
}
"""Columns by table."""


@pytest.fixture
def second(url: str) -> Iterator[Database]:
    """The database of another process."""
    opened = Database(url)
    yield opened
    opened.close()


def pass_time(database: Database, seconds: float) -> None:
    """Let all that is written down be so much older; a negative number is a clock that was set back."""
    with database.transaction() as connection:
        for table, columns in MOMENTS.items():
            changes = ", ".join(
                f"{column} = CASE {column} WHEN 0 THEN 0 ELSE {column} - :seconds END" for column in columns
            )
            update = Statement(f"UPDATE {table} SET {changes}")  # noqa: S608 - constants
            connection.execute(update, {"seconds": float(seconds)})


def at_once(*calls: Callable[[], T]) -> list[T]:
    """What the calls return that threads begin together."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], T]) -> T:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))
