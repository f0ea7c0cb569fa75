"""A database that says nothing: each wait has an end, few threads wait at once, and nothing dead is used afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine import make_url

from registry.clocks import Clocks
from registry.database.connections.circuit import PROBE_SECONDS, Circuit
from registry.database.engine import Database
from registry.database.errors import DatabaseBusy, DatabaseUnavailable
from registry.database.postgresql.repository_versions import RepositoryVersions
from registry.database.schema import upgrade_database
from registry.database.sqlite.group_commit import GroupCommit
from registry.database.sqlite.write_lock import WriteLock
from registry.database.statement import Statement
from registry.database.transaction import Transaction
from tests.support.postgresql import Cluster
from tests.support.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT = 0.5
CONNECT_TIMEOUT = 2.0
"""The least that libpq knows."""
BOUND = 30.0
"""Seconds within which everything here ends, also on a busy machine; without deadlines nothing would."""
ONE = Statement("SELECT 1")
COUNT = Statement("SELECT count(*) FROM kept")
PUT = Statement("INSERT INTO kept (number) VALUES (:number)")


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server that no other test uses, behind a port."""
    running = Cluster(tcp=True)
    yield running
    running.thaw()
    running.remove()


@pytest.fixture
def proxy(server: Cluster) -> Iterator[SilentProxy]:
    assert server.port is not None
    with SilentProxy(server.port) as made:
        yield made


@pytest.fixture
def database(server: Cluster, proxy: SilentProxy) -> Iterator[Database]:
    """Through the proxy, with an empty table."""
    url = make_url(server.create()).set(port=proxy.port).render_as_string()
    opened = Database(url, timeout=TIMEOUT, connect_timeout=CONNECT_TIMEOUT)
    with opened.transaction() as connection:
        connection.run("CREATE TABLE kept (number BIGINT PRIMARY KEY)")
    yield opened
    opened.close()


def look(database: Database) -> None:
    with database.autocommit() as connection:
        connection.execute(ONE, {}).one()


def refused(call: Callable[[], object]) -> float:
    """How long it took until it was unavailable."""
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        call()
    return time.monotonic() - began


def works_again(database: Database) -> None:
    deadline = time.monotonic() + BOUND
    while True:
        try:
            look(database)
        except DatabaseUnavailable:
            assert time.monotonic() < deadline, "it is back, and is not used"
            time.sleep(0.05)
        else:
            return


def test_a_frozen_server_is_not_waited_for_and_is_used_again_when_it_goes_on(
    server: Cluster, database: Database
) -> None:
    look(database)
    server.freeze()
    try:
        assert TIMEOUT <= refused(lambda: look(database)) < BOUND
        began = time.monotonic()
        with ThreadPoolExecutor(32) as pool:
            waits = list(pool.map(lambda _: refused(lambda: look(database)), range(300)))
        assert sorted(waits)[250] < PROBE_SECONDS, "one caller at a time finds out, all others are told at once"
        assert time.monotonic() - began < BOUND
    finally:
        server.thaw()
    works_again(database)


@pytest.mark.stores
def test_a_pooler_that_accepts_and_says_nothing_is_given_up(proxy: SilentProxy, database: Database) -> None:
    look(database)
    proxy.passing.clear()
    assert refused(lambda: look(database)) < BOUND  # the connection that there is
    time.sleep(PROBE_SECONDS)
    assert refused(lambda: look(database)) < BOUND  # a new one
    assert refused(lambda: look(database)) < PROBE_SECONDS
    proxy.passing.set()
    works_again(database)


@pytest.mark.stores
@pytest.mark.parametrize("lost", [b"enable_seqscan", b"statement_timeout"])
def test_a_server_that_falls_silent_while_a_connection_is_made_ready_is_given_up(
    proxy: SilentProxy, database: Database, lost: bytes
) -> None:
    database.close()
    proxy.lose = lambda data: lost in data
    assert refused(lambda: look(database)) < BOUND
    proxy.lose = lambda _: False
    works_again(database)


def test_a_network_that_loses_everything_in_a_transaction_undoes_it_and_frees_its_locks(
    proxy: SilentProxy, database: Database
) -> None:
    with database.transaction() as connection:
        connection.execute(PUT, {"number": 1})

    def lost() -> None:
        with database.transaction() as connection:
            connection.run("UPDATE kept SET number = 2 WHERE number = 1")
            connection.execute(COUNT, {}).one()
            proxy.lose = lambda _: True
            connection.execute(COUNT, {}).one()

    assert refused(lost) < BOUND
    proxy.lose = lambda _: False
    deadline = time.monotonic() + BOUND
    while True:  # the server, which hears nothing either, has to let go of the row by itself
        with contextlib.suppress(DatabaseUnavailable), database.transaction() as connection:
            connection.run("UPDATE kept SET number = 3 WHERE number = 1")
            break
        assert time.monotonic() < deadline
    with database.autocommit() as connection:
        assert connection.execute(Statement("SELECT number FROM kept"), {}).all() == [(3,)]


def test_a_commit_whose_answer_is_lost_is_unavailable_though_it_took_effect(
    proxy: SilentProxy, database: Database
) -> None:
    def doubtful() -> None:
        with database.transaction() as connection:
            connection.execute(PUT, {"number": 7})
            proxy.lose_answer = lambda data: b"COMMIT" in data or b"INSERT" in data

    assert refused(doubtful) < BOUND
    proxy.lose_answer = lambda _: False
    works_again(database)
    with database.autocommit() as connection:
        assert connection.execute(COUNT, {}).one() == (1,)


def test_a_statement_that_takes_too_long_is_ended_by_the_server_and_opens_no_circuit(database: Database) -> None:
    def slow() -> None:
        with database.autocommit() as connection:
            connection.execute(Statement("SELECT pg_sleep(60)"), {}).one()

    assert refused(slow) < BOUND
    assert not database.circuit.is_open, "it works, and is asked by all callers"
    look(database)


@pytest.mark.stores
def test_a_silent_server_is_given_up_by_what_looks_at_the_schema(proxy: SilentProxy, database: Database) -> None:
    proxy.lose = lambda data: b"alembic_version" in data or b"pg_catalog" in data
    assert refused(lambda: upgrade_database(database)) < BOUND
    proxy.lose = lambda _: False
    upgrade_database(database)


@pytest.mark.stores
@pytest.mark.parametrize("lost", [b"enable_seqscan", b"string_to_array"])
def test_a_connection_for_versions_is_not_waited_for_either(
    proxy: SilentProxy, database: Database, lost: bytes
) -> None:
    upgrade_database(database)
    proxy.lose = lambda data: lost in data
    assert refused(lambda: RepositoryVersions(database)) < BOUND
    proxy.lose = lambda _: False
    works_again(database)
    RepositoryVersions(database).close()


# ---- SQLite


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.fixture
def file(path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{path}", timeout=TIMEOUT)
    with opened.transaction() as connection:
        connection.run("CREATE TABLE kept (number BIGINT PRIMARY KEY)")
    yield opened
    opened.close()


def write(database: Database, number: int) -> None:
    with database.transaction() as connection:
        connection.execute(PUT, {"number": number})


def numbers(database: Database) -> list[int]:
    with database.snapshot() as connection:
        return [row[0] for row in connection.execute(Statement("SELECT number FROM kept ORDER BY number"), {})]


def writes_again(database: Database, number: int) -> None:
    deadline = time.monotonic() + BOUND
    while True:
        with contextlib.suppress(DatabaseUnavailable):
            write(database, number)
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_file_that_another_program_locks_stops_writers_for_a_moment_and_no_reader(path: Path, file: Database) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(32) as pool:
            waits = list(pool.map(lambda number: refused(lambda: write(file, number)), range(300)))
            assert max(waits) < BOUND
            assert sorted(waits)[200] < TIMEOUT
        assert numbers(file) == []
        other.execute("ROLLBACK")
    writes_again(file, 1)
    assert numbers(file) == [1]


def test_a_process_that_hangs_with_the_right_to_write_stops_the_others_for_a_moment_only(
    path: Path, file: Database
) -> None:
    with open(f"{path}.lock", "rb") as hung:  # noqa: PTH123 - as the lock is opened
        fcntl.flock(hung, fcntl.LOCK_EX)
        assert refused(lambda: write(file, 1)) < BOUND
        assert refused(lambda: write(file, 1)) < BOUND
        assert numbers(file) == []
    writes_again(file, 2)
    assert numbers(file) == [2]


def test_a_turn_that_comes_too_late_is_given_back(tmp_path: Path) -> None:
    """Else a process that gave up would keep all others out."""
    database = tmp_path / "kept"
    first, second = WriteLock(database, 0.1), WriteLock(database, 0.1)
    first.acquire()
    with pytest.raises(DatabaseBusy):
        second.acquire()
    first.release()
    third = WriteLock(database, BOUND)
    third.acquire()
    with pytest.raises(DatabaseBusy):
        second.acquire()
    third.release()
    deadline = time.monotonic() + BOUND
    while True:
        with contextlib.suppress(DatabaseBusy):
            second.acquire()
            break
        assert time.monotonic() < deadline
    second.release()
    for lock in (first, second, third):
        lock.close()


def test_writers_that_give_up_leave_no_batch_without_its_commit(tmp_path: Path) -> None:
    """A writer passes its batch on to those that wait, while these run out of patience."""
    connection = sqlite3.connect(tmp_path / "kept", isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE kept (number INTEGER)")
    lock = WriteLock(tmp_path / "kept", BOUND)
    group = GroupCommit(lock, Transaction(connection, Clocks()), 0.02)
    done: list[int] = []

    def write_some(number: int) -> None:
        for turn in range(30):
            with contextlib.suppress(DatabaseBusy):
                with group as transaction:
                    time.sleep(0.005 * (turn % 3))
                    transaction.execute(PUT, {"number": number})
                done.append(number)

    threads = [threading.Thread(target=write_some, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert group.waiting == 0
    assert group._batch is None
    kept = connection.execute("SELECT count(*) FROM kept").fetchone()[0]
    assert kept >= len(done) > 0
    connection.close()
    lock.close()


# ---- the circuit


def test_a_circuit_lets_one_caller_through_and_closes_with_the_first_answer() -> None:
    circuit = Circuit()
    circuit.enter()
    circuit.open("silent", since=time.monotonic())
    with pytest.raises(DatabaseUnavailable, match="silent"):
        circuit.enter()
    time.sleep(PROBE_SECONDS)
    circuit.enter()
    with pytest.raises(DatabaseUnavailable):
        circuit.enter()
    before = time.monotonic()
    circuit.close()
    circuit.open("an answer that was waited for before it came back", since=before - 1)
    circuit.enter()
