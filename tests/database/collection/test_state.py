"""The row of collection, and the trigger that notes processes of former releases in it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from registry.background.leases import Leases
from registry.database import leases
from registry.database.collection import former_releases, state
from registry.database.collection.state import CollectionRow
from registry.database.engine import Database
from registry.database.statement import Statement
from registry.images.backends import holder_name
from tests.support.postgresql import Cluster

FORMER = f"{holder_name()}:machine:1:{'0' * 32}"
"""A holder as a former release names it."""
_DOOM = Statement("INSERT INTO doomed (repository_id, blob_id, since) VALUES (:repository, 1, :since)")
_BLOB = Statement(
    "INSERT INTO blob (id, algorithm, digest, size, state, leased_until)"
    " VALUES (1, 'sha256', 'sha256:1', 1, 'present', 0)"
)
_DOOMED = Statement("SELECT count(*) FROM doomed")


def read(database: Database) -> CollectionRow:
    with database.autocommit() as connection:
        return state.find(connection).get()


def test_a_lease_of_a_former_release_is_noted_also_where_another_process_has_it(database: Database) -> None:
    with Leases(database, holder_name()).hold("upload-expiry", 60) as is_held:
        assert is_held
        assert read(database).former_at is None
        with database.transaction() as connection:
            assert not leases.take(connection, "upload-expiry", FORMER, seconds=60)
        row = read(database)
    assert row.former_holder == FORMER
    assert row.former_at == pytest.approx(time.time(), abs=60)
    assert row.former_ago == pytest.approx(0, abs=60)


def test_a_lease_of_this_release_is_not_noted_and_its_name_has_the_mark(database: Database) -> None:
    for _ in range(2):
        with Leases(database, holder_name()).hold("upload-expiry", 60):
            pass
    assert read(database) == CollectionRow()
    assert f":{leases.MARK}:" in former_releases.SQLITE
    assert f":{leases.MARK}:" in former_releases.POSTGRESQL


def test_the_name_of_a_database_is_given_once(database: Database) -> None:
    with database.transaction() as connection:
        leases.take(connection, "upload-expiry", FORMER, seconds=60)  # there is a row already
        state.adopt(connection, "first", state.NEW)
        state.adopt(connection, "second", state.FOUND)
    row = read(database)
    assert (row.database_id, row.origin, row.former_holder) == ("first", state.NEW, FORMER)


def test_a_number_is_given_to_one_of_two_runs_that_read_the_same(database: Database) -> None:
    with database.transaction() as connection:
        state.adopt(connection, "name", state.NEW)
    seen = read(database)
    with database.transaction() as connection:
        assert state.intend(connection, seen, 1)
        assert not state.intend(connection, seen, 1)
        assert state.begin(connection, 1)
    assert (read(database).run, read(database).intended) == (1, 1)


def test_what_was_doomed_before_a_former_release_was_seen_is_dropped_in_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "DROPPED", 10)
    with database.transaction() as connection:
        connection.execute(_BLOB, {})
        state.adopt(connection, "name", state.NEW)
        connection.execute_many(_DOOM, [{"repository": number, "since": float(number)} for number in range(30)])
    pages = 1
    while True:
        with database.transaction() as connection:
            if not state.drop_doomed(connection, seen=24.0)[1]:
                break
        pages += 1
    assert pages == 3
    with database.autocommit() as connection:
        assert connection.execute(_DOOMED, {}).one() == (5,)
    assert read(database).dropped_at == 24.0


def test_rows_that_another_transaction_has_in_hand_are_dropped_when_it_has_ended(cluster: Cluster) -> None:
    """The triggers of a client's transaction remove rows in any order: two that wait for each other would fail one."""
    with closing(Database(cluster.create_current())) as database:
        with database.transaction() as connection:
            connection.execute(_BLOB, {})
            state.adopt(connection, "name", state.NEW)
            connection.execute_many(_DOOM, [{"repository": number, "since": 1.0} for number in range(3)])

        def drop() -> tuple[int, bool]:
            with database.transaction() as connection:
                return state.drop_doomed(connection, seen=2.0)

        with ThreadPoolExecutor(1) as pool, database.transaction() as connection:
            assert connection.execute(Statement("DELETE FROM doomed WHERE repository_id = 1"), {}).rowcount == 1
            assert pool.submit(drop).result(60) == (2, True)
            connection.execute(Statement("DELETE FROM doomed WHERE repository_id = 0"), {})
        assert read(database).dropped_at is None, "that transaction might have come to nothing"
        assert drop() == (0, False)
        assert read(database).dropped_at == 2.0


def test_a_database_server_says_when_it_is_another_one_and_a_file_does_not(database: Database) -> None:
    with database.autocommit() as connection:
        found = state.instance(connection)
    if database.is_sqlite:
        assert found is None
        return
    with database.autocommit() as connection:
        assert state.instance(connection) == found
    with database.transaction() as connection:
        connection.execute(Statement("TRUNCATE repository CASCADE"), {})  # as a restore does
    with database.autocommit() as connection:
        assert state.instance(connection) != found
