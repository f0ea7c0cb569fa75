"""SQLite's files are opened beside other programs that have them open."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable
from registry.database.schema import HEAD, upgrade_database


@pytest.fixture
def other(tmp_path: Path) -> sqlite3.Connection:
    """Another program, in the middle of the first transaction on a new file."""
    connection = sqlite3.connect(tmp_path / "cache.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_new_file_that_another_program_writes_to_is_waited_for(tmp_path: Path, other: sqlite3.Connection) -> None:
    end = threading.Timer(0.3, other.close)
    end.start()
    with contextlib.closing(Database(f"sqlite:///{tmp_path / 'cache.db'}", timeout=60)) as database:
        end.join()
        assert upgrade_database(database).after == HEAD


def test_it_is_not_waited_for_longer_than_for_any_lock(tmp_path: Path, other: sqlite3.Connection) -> None:
    with pytest.raises(DatabaseUnavailable, match="locked"):
        Database(f"sqlite:///{tmp_path / 'cache.db'}", timeout=0.05)
    other.close()
