"""The versions of repositories in a SQLite file: always those of now, read anew only after a commit."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from registry.database import repositories
from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable
from registry.database.sqlite.repository_versions import RepositoryVersions
from tests.support.sqlite import create_current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "team/app"
FIRST = 1_000_000
"""Its first version: when it was made, in microseconds."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(create_current(tmp_path / "cache.db"))
    with opened.transaction() as connection:
        repositories.create(connection, NAME, etag="", now=1.0)
    yield opened
    opened.close()


@pytest.fixture
def versions(database: Database) -> Iterator[RepositoryVersions]:
    opened = RepositoryVersions(database.path)
    yield opened
    opened.close()


def statements(versions: RepositoryVersions) -> list[str]:
    """Fills with what is executed from now on."""
    executed: list[str] = []
    versions._connection.set_trace_callback(executed.append)
    return executed


def test_repositories_that_do_not_exist_have_no_version(versions: RepositoryVersions) -> None:
    assert dict(versions.read([NAME, "team/absent"])) == {NAME: FIRST}


def test_a_commit_of_another_connection_shows_at_once(database: Database, versions: RepositoryVersions) -> None:
    for version in range(FIRST, FIRST + 3):
        assert versions.read([NAME])[NAME] == version
        with database.transaction() as connection:
            connection.run("UPDATE repository SET version = version + 1")
    with database.transaction() as connection:
        connection.run("DELETE FROM repository")
    assert NAME not in versions.read([NAME])


def test_a_version_is_read_once_as_long_as_nothing_is_committed(
    database: Database, versions: RepositoryVersions
) -> None:
    versions.read([NAME])
    executed = statements(versions)
    for _ in range(3):
        versions.read([NAME])
    assert len(executed) == 3, "each time the data version alone"
    with database.transaction() as connection:
        connection.run("UPDATE repository SET version = version + 1")
    versions.read([NAME])
    assert len(executed) == 5


def test_a_locked_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE repository (name TEXT, version INTEGER)")
    versions = RepositoryVersions(path)
    assert not versions.read([NAME])
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseUnavailable):
        versions.read([NAME])
    other.execute("ROLLBACK")
    assert not versions.read([NAME])
    versions.close()
    other.close()
