"""A database that was given back is as a new one for the next test, or is not lent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.support import server_clock
from tests.support.lent_databases import LentDatabases
from tests.support.postgresql import Cluster

ROW = "INSERT INTO repository (name, created_at) VALUES ('team/app', 1)"
ROWS = """
INSERT INTO repository (name, created_at)
SELECT 'team/' || number, 1 FROM generate_series(1, 9000) AS number
"""


@pytest.fixture
def lent(cluster: Cluster) -> LentDatabases:
    """Apart from those of other tests."""
    return LentDatabases(cluster)


@pytest.fixture
def connect() -> Iterator[Callable[[str], psycopg.Connection]]:
    """Connections that end with the test."""
    made: list[psycopg.Connection] = []

    def do(url: str) -> psycopg.Connection:
        made.append(psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True))
        return made[-1]

    yield do
    for connection in made:
        connection.close()


def test_it_has_no_rows_and_its_ids_begin_anew(
    lent: LentDatabases, connect: Callable[[str], psycopg.Connection]
) -> None:
    url = lent.lend()
    with connect(url) as connection:
        connection.execute(ROW)
    lent.give_back(url)
    again = _lend_when_idle(lent, url)
    with connect(again) as connection:
        assert connection.execute("SELECT count(*) FROM repository").fetchone() == (0,)
        assert connection.execute(f"{ROW} RETURNING id").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM schema_revision").fetchone() == (1,)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE tag ADD COLUMN more int",
        "DROP TABLE change",
        "CREATE TABLE another (number int)",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA another",
        "ANALYZE repository",
        "UPDATE schema_revision SET version_num = '0001'",
        "ALTER TABLE tag DISABLE TRIGGER ALL",
    ],
)
def test_what_a_test_has_changed_beside_rows_is_not_lent_again(
    lent: LentDatabases, connect: Callable[[str], psycopg.Connection], change: str
) -> None:
    url = lent.lend()
    with connect(url) as connection:
        connection.execute(change.encode())
    lent.give_back(url)
    assert lent.lend() != url


def test_one_with_a_clock_is_lent_again_with_it(cluster: Cluster, connect: Callable[[str], psycopg.Connection]) -> None:
    lent = LentDatabases(cluster, server_clock.install)
    url = lent.lend()
    server_clock.use(url)
    server_clock.set_to(url, 5.0)
    lent.give_back(url)
    server_clock.set_to(_lend_when_idle(lent, url), 1000.0)
    with connect(url) as connection:
        row = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
    assert row is not None
    assert 1000 <= row[0] < 2000


def test_what_is_in_use_is_not_lent_again(lent: LentDatabases, connect: Callable[[str], psycopg.Connection]) -> None:
    url = lent.lend()
    connect(url)
    lent.give_back(url)
    assert lent.lend() != url


def test_what_has_grown_is_not_lent_again(lent: LentDatabases, connect: Callable[[str], psycopg.Connection]) -> None:
    url = lent.lend()
    with connect(url) as connection:
        connection.execute(ROWS)
    lent.give_back(url)
    assert lent.lend() != url


def _lend_when_idle(lent: LentDatabases, url: str) -> str:
    """The server may need a moment to end the process of a connection that was closed: then another is lent."""
    for _ in range(100):
        if (found := lent.lend()) == url:
            return found
        lent.give_back(url)
    raise AssertionError(f"{url} is never idle")
