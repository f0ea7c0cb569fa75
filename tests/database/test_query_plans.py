"""Nothing looks through all places for those of a few blobs: done for each repository or shard, that is quadratic."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from registry.database import contents, originals
from registry.database.engine import Database
from registry.database.migrate import upgrade_database
from registry.database.statement import Statement


@pytest.mark.parametrize("statement", [contents._LOST, originals._PLACED], ids=["lost", "placed"])
def test_places_are_found_by_their_blob(statement: Statement, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'cache.db'}")
    upgrade_database(database)
    database.close()
    values = dict.fromkeys(re.findall(r":([a-z_]+)", statement._sql))
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement._sql}", values)]
    assert any("ix_blob_location_blob_id" in step for step in plan), plan
    assert not any("(store=?)" in step for step in plan), plan
