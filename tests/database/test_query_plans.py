"""Nothing looks through all rows for a few: done for each repository, shard or second, that is too dear."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry.database import migration_queries, references
from registry.database.engine import Database
from registry.database.schema import upgrade_database
from registry.database.statement import Statement


def explain(statement: Statement, directory: Path) -> list[str]:
    """The steps of SQLite's plan."""
    database = Database(f"sqlite:///{directory / 'cache.db'}")
    upgrade_database(database)
    database.close()
    values = dict.fromkeys(re.findall(r":([a-z_]+)", statement._sql))
    with closing(sqlite3.connect(directory / "cache.db")) as connection:
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement._sql}", values)]


@pytest.mark.parametrize("statement", [migration_queries._LOST, migration_queries._PLACED], ids=["lost", "placed"])
def test_locations_are_found_by_their_blob(statement: Statement, tmp_path: Path) -> None:
    plan = explain(statement, tmp_path)
    assert any("ix_blob_location_blob_id" in step for step in plan), plan
    assert not any("(store=?)" in step for step in plan), plan


@pytest.mark.parametrize(
    "statement", [references._INCOMPLETE_PAGE, references._INCOMPLETE_OF], ids=["any", "of-a-repository"]
)
def test_manifests_that_are_not_complete_are_found_by_an_index_of_these_alone(
    statement: Statement, tmp_path: Path
) -> None:
    plan = explain(statement, tmp_path)
    assert any("SEARCH m USING INDEX ix_manifest_incomplete" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
