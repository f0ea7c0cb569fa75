"""Statements to PostgreSQL that are not waited for: their results, their errors, and what is left of the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable
from registry.database.postgresql.pipeline import MOST, Pipeline
from registry.database.statement import Statement
from registry.database.transaction import Transaction
from registry.oci.digest import Digest
from tests.support.postgresql import Cluster

PUT = Statement("INSERT INTO kept (number, body) VALUES (:number, :body) RETURNING number")
COUNT = Statement("SELECT count(*) FROM kept")
BODY = Statement("SELECT body FROM kept WHERE number = :number")
SERVER = Statement("SELECT pg_backend_pid()")


@pytest.fixture
def database(new_database: Callable[[], str]) -> Iterator[Database]:
    """With a table of numbers, each of which is there once."""
    opened = Database(new_database())
    with opened.transaction() as connection:
        connection.run("CREATE TABLE kept (number BIGINT PRIMARY KEY, body BYTEA)")
    yield opened
    opened.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each wait for the server."""
    counted: list[int] = []
    take = Pipeline._take_results

    def counting(pipeline: Pipeline) -> Any:
        counted.append(1)
        return take(pipeline)

    monkeypatch.setattr(Pipeline, "_take_results", counting)
    return counted


def put(connection: Transaction, number: int, body: bytes | None = None) -> Any:
    """Send it; its own number later."""
    return connection.execute(PUT, {"number": number, "body": body}).later(lambda rows: rows.one()[0])


def count(database: Database) -> int:
    """How many there are."""
    with database.autocommit() as connection:
        return int(connection.execute(COUNT, {}).one()[0])


def server_of(database: Database) -> int:
    """The process of the server that has the connection."""
    with database.autocommit() as connection:
        return int(connection.execute(SERVER, {}).one()[0])


def test_a_transaction_waits_for_what_is_read_and_for_its_end(database: Database, waits: list[int]) -> None:
    server_of(database)
    waits.clear()
    with database.transaction(durable=False) as connection:
        sent = [put(connection, number) for number in range(5)]
    assert len(waits) == 1
    assert [each.get() for each in sent] == [0, 1, 2, 3, 4]
    assert len(waits) == 1, "they have come with the commit"
    with database.transaction() as connection:
        sent = [put(connection, number) for number in range(5, 8)]
        assert [each.get() for each in sent] == [5, 6, 7]
        put(connection, 8)
    assert len(waits) == 3
    with database.autocommit() as connection:
        first, second = connection.execute(COUNT, {}), connection.execute(BODY, {"number": 8})
        assert (first.one(), second.one()) == ((9,), (None,))
    assert len(waits) == 4


def test_an_unread_error_is_raised_by_the_next_read(database: Database) -> None:
    reached = []

    def fail() -> None:
        with database.transaction() as connection:
            put(connection, 1)
            put(connection, 1)
            rows = connection.execute(COUNT, {})
            reached.append(1)
            rows.one()
            reached.append(2)

    with pytest.raises(DatabaseUnavailable, match="kept_pkey"):
        fail()
    assert reached == [1]
    assert count(database) == 0


def test_an_unread_error_is_raised_by_the_commit(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as connection:
            put(connection, 1)
            put(connection, 1)

    with pytest.raises(DatabaseUnavailable, match="kept_pkey"):
        fail()
    assert count(database) == 0


def test_an_unread_error_of_a_look_is_raised_at_its_end(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="division by zero"), database.autocommit() as connection:
        connection.execute(Statement("SELECT 1 / :number"), {"number": 0})


def test_an_error_that_the_block_takes_lightly_is_raised_by_the_commit(database: Database) -> None:
    def careless() -> None:
        with database.transaction() as connection:
            put(connection, 1)
            with pytest.raises(Exception, match="kept_pkey"):
                put(connection, 1).get()
            put(connection, 2)

    with pytest.raises(DatabaseUnavailable):
        careless()
    assert count(database) == 0


def test_a_statement_that_has_not_run_is_known_to_the_server_when_it_is_used_again(database: Database) -> None:
    """It was to be prepared behind one that failed, and the block raises something else than that."""
    new = Statement("SELECT :number + 40 WHERE :number = 2")

    def fail() -> None:
        with database.transaction() as connection:
            put(connection, 1)
            put(connection, 1)
            connection.execute(new, {"number": 2})
            raise KeyError(1)

    before = server_of(database)
    with pytest.raises(KeyError):
        fail()
    assert server_of(database) == before, "the same connection"
    assert count(database) == 0
    for _ in range(2):
        with database.autocommit() as connection:
            assert connection.execute(new, {"number": 2}).first() == (42,)


def test_a_connection_whose_answers_were_not_taken_is_not_used_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = server_of(database)

    def interrupt(_pipeline: Pipeline) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "_next_result", interrupt)
        with pytest.raises(KeyboardInterrupt), database.transaction() as connection:
            put(connection, 1).get()
    assert server_of(database) != before
    assert count(database) == 0


def test_a_server_that_is_gone_is_told_of_by_the_next_read(cluster: Cluster, database: Database) -> None:
    def cut() -> None:
        with database.transaction() as connection:
            put(connection, 1).get()
            cluster.stop()
            cluster.start()
            put(connection, 2)
            connection.execute(COUNT, {}).one()

    with pytest.raises(DatabaseUnavailable):
        cut()
    assert count(database) == 0


def test_a_connection_that_was_lost_while_idle_is_unavailable_once(cluster: Cluster, database: Database) -> None:
    server_of(database)
    cluster.stop()
    cluster.start()
    with pytest.raises(DatabaseUnavailable):
        count(database)
    assert count(database) == 0


def test_more_than_the_buffers_of_both_sides_hold_goes_through(database: Database) -> None:
    """The server stops reading if its answers are not taken: the sender has to take them."""
    body = bytes(1 << 20)
    with database.transaction() as connection:
        put(connection, -1, body)
        sent = [connection.execute(BODY, {"number": -1}) for _ in range(40)]
        for number in range(40):
            put(connection, number, body)
        assert [rows.one() for rows in sent] == [(body,)] * 40
        connection.execute_many(PUT, [{"number": 1000 + number, "body": b""} for number in range(2 * MOST)])
    assert count(database) == 41 + 2 * MOST


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**62, -(2**63), True, False, None, 0.1, -1e300, 1_750_000_000.123457, b"", b"\0\xff", "", "ä'\\%s :x"],
    ids=repr,
)
def test_values_come_back_as_they_were(database: Database, value: object) -> None:
    kinds = {int: "BIGINT", bool: "BOOLEAN", float: "DOUBLE PRECISION", bytes: "BYTEA", str: "TEXT", type(None): "TEXT"}
    with database.autocommit() as connection:
        found = connection.execute(Statement(f"SELECT CAST(:value AS {kinds[type(value)]})"), {"value": value}).one()[0]
    assert (type(found), found) == (type(value), value)


def test_values_of_derived_types_are_sent_as_what_they_are_derived_from(database: Database) -> None:
    digest = Digest.of(b"")
    with database.autocommit() as connection:
        assert connection.execute(Statement("SELECT CAST(:value AS TEXT)"), {"value": digest}).one() == (str(digest),)
        for buffer in (bytearray(b"x"), memoryview(b"x")):
            assert connection.execute(Statement("SELECT CAST(:value AS BYTEA)"), {"value": buffer}).one() == (b"x",)


def test_an_empty_table_is_not_what_later_statements_are_planned_for(database: Database) -> None:
    """While it is empty its whole is the cheapest to read, and a plan is kept as long as the connection."""
    explain = "EXPLAIN SELECT body FROM kept WHERE number = 1"
    with database.autocommit() as connection:
        plan = " ".join(connection.execute(Statement(explain), {}).all_as(str).get())
    assert "Index" in plan
    assert "Seq Scan" not in plan
