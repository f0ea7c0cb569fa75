"""SQLite databases of tests: copies of one that was made once, because the tables take most of a small test's time."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path

from registry.database.schema import upgrade


def create_current(path: Path) -> str:
    """A database at ``path``, with the newest schema and no rows, unless there is one; its URL."""
    if not path.exists():
        shutil.copyfile(_template(), path)
    return f"sqlite:///{path}"


@functools.cache
def _template() -> Path:
    path = Path(tempfile.mkdtemp(prefix="stowage-template-")) / "cache.db"
    upgrade(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    atexit.register(shutil.rmtree, path.parent)
    return path
