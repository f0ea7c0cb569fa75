"""A transaction that is alone: begun when all others have ended, and no other begins before it has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.database import stores
from registry.database.engine import Database
from registry.database.stores import OPEN, READ_ONLY, StoreRow
from tests.database.conftest import wait_for_a_lock

ROW = StoreRow("s3", "0001", 3, OPEN, None, ("a", "b/c"), 5.5)
SHUT = ROW._replace(mode=READ_ONLY, reason="why", revision=4)
SOON = 0.2
"""Seconds after which what could go on would have gone on."""


@pytest.fixture
def other(url: str, database: Database) -> Iterator[Database]:
    """Of another process."""
    opened = Database(url)
    yield opened
    opened.close()


def test_a_store_is_noted_and_shut(database: Database) -> None:
    with database.exclusive() as connection:
        assert stores.find(connection, "s3").get() is None
        stores.put(connection, ROW)
        assert stores.find(connection, "s3").get() == ROW
        stores.put(connection, SHUT)
    with database.autocommit() as connection:
        assert stores.find(connection, "s3").get() == SHUT
        assert stores.find(connection, "gcs").get() is None
    with database.exclusive() as connection:
        stores.put(connection, ROW._replace(migration=None, prefixes=()))
    with database.autocommit() as connection:
        assert stores.find(connection, "s3").get() == ROW._replace(migration=None, prefixes=())


def test_it_waits_for_those_that_have_begun_and_those_that_come_wait_for_it(
    url: str, database: Database, other: Database
) -> None:
    with database.exclusive() as connection:
        stores.put(connection, ROW)
    begun, finish, shut = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with database.transaction() as connection:
            row = stores.find(connection, "s3").get()
            assert row is not None
            begun.set()
            finish.wait()
            assert stores.find(connection, "s3").get() == row  # as this transaction has read it
            order.append(f"first {row.mode}")

    def alone() -> None:
        with other.exclusive() as connection:
            stores.put(connection, SHUT)
            assert stores.find(connection, "s3").get() is not None  # what was sent is not waited for
            order.append("alone")
        shut.set()

    def last() -> None:
        with database.transaction(durable=False) as connection:
            row = stores.find(connection, "s3").get()
            assert row is not None
            order.append(f"last {row.mode}")

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(first)]
        begun.wait()
        running.append(pool.submit(alone))
        if not database.is_sqlite:
            wait_for_a_lock(url)
        assert not shut.wait(SOON)
        running.append(pool.submit(last))
        assert not shut.wait(SOON)
        finish.set()
        for each in running:
            each.result()
    assert order[0] == "first open"
    assert set(order[1:]) in ({"alone", "last read-only"}, {"alone", "last open"})
    # SQLite serves writers of one process together; PostgreSQL's queue is one for all.
    if not database.is_sqlite:
        assert order == ["first open", "alone", "last read-only"]


def test_others_go_on_after_one_that_failed(database: Database, other: Database) -> None:
    def fail() -> None:
        with database.exclusive() as connection:
            stores.put(connection, ROW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with other.transaction() as connection:
        assert stores.find(connection, "s3").get() is None


def test_readers_do_not_wait_for_it(database: Database, other: Database) -> None:
    with database.exclusive() as connection:
        stores.put(connection, ROW)
        with other.snapshot() as reading:
            assert stores.find(reading, "s3").get() is None
        with other.autocommit() as reading:
            assert stores.find(reading, "s3").get() is None
