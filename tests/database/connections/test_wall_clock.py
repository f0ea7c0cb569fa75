"""The clock of the database, as processes with wrong clocks know it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from registry.clocks import Clocks, boot_seconds
from registry.config.sections import DatabaseSettings, StorageSettings
from registry.config.settings import Settings
from registry.database import engine
from registry.database.engine import Database
from registry.images.registry import Registry
from tests.support.postgresql import Cluster

NEAR = 5.0
"""Seconds that may pass between two looks at clocks, on a busy machine."""


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_a_process_with_a_wrong_clock_counts_by_that_of_the_server(cluster: Cluster) -> None:
    for skew in (-90.0, 90.0):
        database = Database(cluster.create(), clocks=Clocks(lambda: time.time() + skew, boot_seconds))  # noqa: B023
        assert abs(database.wall() - time.time() - skew) < NEAR, "it was not read yet"
        database.wall.read()
        assert abs(database.wall() - time.time()) < NEAR
        database.close()


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_it_goes_on_by_seconds_and_not_by_the_wall(cluster: Cluster) -> None:
    wall, boot = [1000.0], [50.0]
    database = Database(cluster.create(), clocks=Clocks(lambda: wall[0], lambda: boot[0]))
    database.wall.read()
    first = database.wall()
    wall[0] += 3600
    boot[0] += 2
    assert database.wall() == first + 2
    database.close()


def test_a_file_has_the_clock_of_its_machine(tmp_path: Path) -> None:
    wall = [1000.0]
    database = Database(f"sqlite:///{tmp_path / 'cache.db'}", clocks=Clocks(lambda: wall[0]))
    database.wall.read()
    wall[0] += 3600
    assert database.wall() == 4600.0
    database.close()


@pytest.mark.tools("initdb", "pg_ctl", "postgres")
def test_a_registry_goes_by_it(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica with a clock that is ahead would end uploads of the rest."""
    monkeypatch.setattr(engine, "Clocks", lambda: Clocks(lambda: time.time() + 90))
    settings = Settings(
        storage=StorageSettings(root_directory=tmp_path), database=DatabaseSettings(url=cluster.create())
    )
    registry = Registry.open(settings)
    assert abs(registry.backends.clock() - time.time()) < NEAR
    registry.close()
