"""Every test here that asks for ``url`` or ``database`` runs twice: over SQLite and over PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database.engine import Database
from registry.database.statement import Statement
from tests.support.postgresql import Cluster
from tests.support.sqlite import create_current

KINDS = ["sqlite", "postgresql"]


def _cluster(request: pytest.FixtureRequest) -> Cluster:
    running = request.getfixturevalue("cluster")
    assert isinstance(running, Cluster)
    return running


@pytest.fixture(params=KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    return f"sqlite:///{tmp_path / 'cache.db'}" if request.param == "sqlite" else _cluster(request).create()


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database with the newest schema."""
    if request.param == "sqlite":
        return create_current(tmp_path / "cache.db")
    return str(request.getfixturevalue("new_database")())


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """With the newest schema."""
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """With the newest schema, for tests that leave nothing in it."""
    if request.param == "sqlite":
        opened = Database(create_current(tmp_path_factory.mktemp("shared") / "cache.db"))
    else:
        opened = Database(_cluster(request).create_current())
    yield opened
    opened.close()


def wait_for_a_lock(url: str) -> None:
    """Until a transaction waits for the lock of another in this database."""
    waiting = Statement(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    database = Database(url)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with database.autocommit() as connection:
            if connection.execute(waiting, {}).one()[0]:
                break
        time.sleep(0.01)
    else:
        pytest.fail("no transaction waits")
    database.close()
