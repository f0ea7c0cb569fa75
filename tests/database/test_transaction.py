"""Transactions: whole or not at all, one after the other for the same repository, and possible again after a loss."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from psycopg import pq

from registry.database import blob_locations, blobs, changes, memberships, repositories
from registry.database.connections.circuit import PROBE_SECONDS
from registry.database.engine import CONNECTIONS, SPARE, TIMEOUT, Database
from registry.database.errors import DatabaseUnavailable
from registry.database.schema import upgrade
from registry.database.statement import Statement
from registry.database.transaction import Transaction
from tests.support.postgresql import Cluster
from tests.support.processes import processes

NOW = 1_750_000_000.0
DIGEST = f"sha256:{1:064x}"
ROUNDS = 25


def allot(url: str, repository: int) -> list[int]:
    """Allot numbers as a worker does; the numbers it got."""
    database = Database(url)
    got = []
    for _ in range(ROUNDS):
        with database.transaction() as connection:
            row = repositories.next_sequence(connection, repository).get()
            assert row is not None
            changes.add(connection, repository, row.sequence, b"{}\n", state=changes.PENDING, now=NOW)
        got.append(row.sequence)
    database.close()
    return got


def test_processes_that_change_a_repository_never_get_one_number_twice(database: Database, url: str) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
    with processes().Pool(4) as pool:
        numbers = pool.starmap(allot, [(url, row.id)] * 4, chunksize=1)
        pool.close()
        pool.join()
    assert sorted(itertools.chain(*numbers)) == list(range(1, 4 * ROUNDS + 1))
    with database.snapshot() as connection:
        after = repositories.get(connection, row.id).get()
        assert after is not None
        assert (after.sequence, after.version) == (4 * ROUNDS, row.version + 4 * ROUNDS)
        assert len(changes.of_repository(connection, row.id).get()) == 4 * ROUNDS


def test_more_threads_than_connections_wait_for_each_other(database: Database) -> None:
    """What one gives back the next one has at once: it does not wait for the pool, which hears of nothing."""
    together = threading.Barrier(CONNECTIONS)

    def look(number: int) -> None:
        with database.snapshot():
            if number < CONNECTIONS:
                together.wait(timeout=20)  # all connections are in use now
            time.sleep(0.01)

    began = time.monotonic()
    with ThreadPoolExecutor(3 * CONNECTIONS) as pool:
        list(pool.map(look, range(3 * CONNECTIONS)))
    assert time.monotonic() - began < TIMEOUT


def test_a_connection_that_cannot_be_made_ready_is_not_kept_from_others(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cluster.create_current()
    with monkeypatch.context() as patched:
        patched.setattr("registry.database.postgresql.server.PLANS", ("no command",))
        database = Database(url)
    for _ in range(CONNECTIONS + SPARE + 1):
        with pytest.raises(DatabaseUnavailable, match="syntax error"), database.autocommit():
            pytest.fail("it was made ready")
    database.close()
    with contextlib.closing(Database(url)) as another, another.autocommit():
        pass  # the server has room for it


def test_postgresql_is_asked_once_in_autocommit_and_no_more_than_begins_and_ends_for_a_transaction(
    cluster: Cluster,
) -> None:
    database = Database(cluster.create_current())
    asked = Statement("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
    with database.autocommit() as connection:
        assert connection.execute(asked, {}).one() == ("read committed", "off")
        assert connection._pipeline._server.transaction_status == pq.TransactionStatus.IDLE  # type: ignore[attr-defined]
    with database.snapshot() as connection:
        assert connection.execute(asked, {}).one() == ("repeatable read", "on")
    with database.transaction() as connection:
        assert connection.execute(asked, {}).one() == ("read committed", "off")
    database.close()


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            repositories.create(connection, "team/app", etag="", now=NOW)
            raise KeyError("team/app")

    with pytest.raises(KeyError):
        fail()
    with database.snapshot() as connection:
        assert repositories.names(connection).get() == []


def test_a_statement_that_fails_undoes_what_went_before_it(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            repositories.create(connection, "team/app", etag="", now=NOW)
            memberships.add(connection, 12345, 67890, now=NOW)  # neither exists

    with pytest.raises(DatabaseUnavailable):
        fail()
    with database.transaction() as connection:
        assert repositories.names(connection).get() == []


def test_writers_at_the_same_time_lose_only_what_they_undo_themselves(database: Database) -> None:
    def make(connection: Transaction, number: int) -> None:
        repositories.create(connection, f"r{number:03}", etag="", now=NOW)
        if number % 5 == 0:
            raise KeyError(number)
        if number % 7 == 0:
            memberships.add(connection, 12345, 67890, now=NOW)  # neither exists

    def write(number: int) -> bool:
        try:
            with database.transaction() as connection:
                make(connection, number)
        except (KeyError, DatabaseUnavailable):
            return False
        with database.snapshot() as connection:
            return repositories.find(connection, f"r{number:03}").get() is not None

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(write, range(100)))
    expected = [number for number in range(100) if number % 5 and number % 7]
    assert [number for number in range(100) if done[number]] == expected
    with database.snapshot() as connection:
        assert repositories.names(connection).get() == [f"r{number:03}" for number in expected]


def test_a_read_sees_one_state_of_the_database(database: Database) -> None:
    with database.snapshot() as reader:
        assert repositories.names(reader).get() == []
        with database.transaction() as writer:
            repositories.create(writer, "team/app", etag="", now=NOW)
        assert repositories.names(reader).get() == []
    with database.snapshot() as reader:
        assert repositories.names(reader).get() == ["team/app"]


def test_a_read_cannot_write_on_postgresql(database: Database) -> None:
    if database.is_sqlite:
        return  # SQLite would take the write as one that does not wait for its turn
    with pytest.raises(DatabaseUnavailable, match="read-only"), database.snapshot() as connection:
        repositories.create(connection, "team/app", etag="", now=NOW)


def test_text_with_percent_signs_and_colons_is_kept(database: Database) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="100% %s %(x)s :name ä", now=NOW)
    assert row.etag == "100% %s %(x)s :name ä"


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param(
            lambda connection, repository, _blob: repositories.lock(connection, repository).get(), id="repository"
        ),
        pytest.param(lambda connection, _repository, _blob: blobs.lock(connection, DIGEST).get(), id="blob"),
        pytest.param(
            lambda connection, _repository, _blob: blob_locations.lock_blob_at(
                connection, DIGEST, store="local", key="k"
            ).get(),
            id="place",
        ),
    ],
)
def test_two_writers_that_lock_the_same_row_go_one_after_the_other(
    database: Database, lock: Callable[..., object]
) -> None:
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
        blob = blobs.put(connection, DIGEST, size=1, lease=0).get().id
    inside, seen = threading.Event(), []

    def second() -> None:
        inside.wait(60)
        with database.transaction() as connection:
            lock(connection, row.id, blob)
            seen.append(memberships.find(connection, row.id, DIGEST).get())

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(second)
        with database.transaction() as connection:
            lock(connection, row.id, blob)
            inside.set()
            time.sleep(0.3)
            assert not seen
            memberships.add(connection, row.id, blob, now=NOW)
        future.result(10)
    assert seen != [None]


def test_a_database_that_stops_is_unavailable_and_is_used_again_when_it_is_back(cluster: Cluster) -> None:
    database = Database(cluster.create_current())
    names = Statement("SELECT 1")
    with database.snapshot() as connection:
        assert list(connection.execute(names, {})) == [(1,)]
    cluster.stop()
    try:
        with pytest.raises(DatabaseUnavailable), database.snapshot() as connection:
            connection.execute(names, {})
    finally:
        cluster.start()
    with database.snapshot() as connection:
        assert list(connection.execute(names, {})) == [(1,)]
    database.close()


def test_a_connection_that_is_cut_in_a_transaction_undoes_it(cluster: Cluster) -> None:
    database = Database(cluster.create_current())
    with database.transaction() as connection:
        connection.run("CREATE TABLE kept (number INTEGER)")

    def cut() -> None:
        with database.transaction() as connection:
            connection.run("INSERT INTO kept VALUES (1)")
            cluster.stop()
            cluster.start()
            connection.run("INSERT INTO kept VALUES (2)")

    with pytest.raises(DatabaseUnavailable):
        cut()
    with database.snapshot() as connection:
        assert connection.execute(Statement("SELECT count(*) FROM kept"), {}).one() == (0,)
    database.close()


def test_a_file_that_another_program_locks_is_unavailable(tmp_path: object) -> None:
    path = f"{tmp_path}/cache.db"
    database = Database(f"sqlite:///{path}", timeout=0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"), database.transaction():
        pass
    other.execute("ROLLBACK")
    other.close()
    time.sleep(PROBE_SECONDS)
    with database.transaction() as connection:
        connection.run("CREATE TABLE free (number INTEGER)")
    database.close()


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: object) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        Database(f"sqlite:///{tmp_path}")  # a directory


def test_a_closed_database_has_no_connections(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    database = Database(f"sqlite:///{path}")
    with database.transaction() as connection:
        connection.run("CREATE TABLE kept (number INTEGER)")
    database.close()
    assert not path.with_name("cache.db-wal").exists()  # SQLite removes it with the last connection


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: object) -> None:
    database = Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    with pytest.raises(DatabaseUnavailable), database.snapshot():
        pass
    database.close()


BODY = b"x" * 4000
LOG_PAGES = 256
"""From which on a log is begun anew in these tests."""


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Database, Path]]:
    """A database with two threads that write all the time, and its log."""
    monkeypatch.setattr("registry.database.engine.LOG_PAGES", LOG_PAGES)
    path = tmp_path / "busy.db"
    upgrade(f"sqlite:///{path}")
    database = Database(f"sqlite:///{path}")
    with database.transaction() as connection:
        row = repositories.create(connection, "team/app", etag="", now=NOW)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with database.transaction() as connection:
                allotted = repositories.next_sequence(connection, row.id).get()
                assert allotted is not None
                changes.add(connection, row.id, allotted.sequence, BODY, state=changes.PENDING, now=NOW)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        yield database, Path(f"{path}-wal")
    finally:
        stop.set()
        for writer in writers:
            writer.join()
        database.close()


def _written(database: Database) -> int:
    with database.snapshot() as connection:
        row = repositories.find(connection, "team/app").get()
        assert row is not None
        return row.sequence


def _beginnings(log: Path) -> int:
    """How often the log was begun anew (the file format of SQLite, section 4.1: checkpoint sequence number)."""
    with log.open("rb") as file:
        return int.from_bytes(file.read(16)[12:], "big")


def _write_more(database: Database) -> None:
    """Wait until more was written than fits into the log, while no transaction reads."""
    wanted = _written(database) + 2 * LOG_PAGES
    while _written(database) < wanted:
        time.sleep(0.01)


def test_the_log_of_sqlite_is_begun_anew_while_transactions_write_all_the_time(busy: tuple[Database, Path]) -> None:
    database, log = busy
    for _ in range(8):
        before = _beginnings(log)
        _write_more(database)
        database.checkpoint()
        _write_more(database)
        assert _beginnings(log) > before


def test_a_long_read_stops_neither_the_checkpoint_nor_the_writers(busy: tuple[Database, Path]) -> None:
    database, log = busy
    with database.snapshot() as connection:
        repositories.find(connection, "team/app").get()
        before = _beginnings(log)
        for _ in range(3):
            _write_more(database)
            started = time.monotonic()
            database.checkpoint()
            assert time.monotonic() - started < TIMEOUT
        assert _beginnings(log) == before, "its bytes are still in the log"
    database.checkpoint()
    _write_more(database)
    assert _beginnings(log) > before
