"""Every test here that asks for ``url`` or ``database`` runs twice: over SQLite and over PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database.engine import Database
from registry.database.schema import upgrade_database
from registry.database.statement import Statement
from tests.support.postgresql import Cluster


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'cache.db'}"
    running = request.getfixturevalue("cluster")
    assert isinstance(running, Cluster)
    return running.create()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """With the newest schema."""
    opened = Database(url)
    upgrade_database(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """With the newest schema, for tests that leave nothing in it."""
    if request.param == "sqlite":
        opened = Database(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'cache.db'}")
    else:
        running = request.getfixturevalue("cluster")
        assert isinstance(running, Cluster)
        opened = Database(running.create())
    upgrade_database(opened)
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
