"""Tables: the temporary SQLite file behind an inventory, so that memory stays bounded, and statements on it.

Tests: ``tests/migration/source/test_inventory.py``.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BATCH: Final = 1000
"""Rows that are read and written at once: a page of a listing."""
_CACHE_KIB: Final = 32 << 10
_SCHEMA: Final = """
CREATE TABLE object (key TEXT PRIMARY KEY, kind TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL,
                     size INTEGER NOT NULL, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX object_repository ON object (repository, kind);
CREATE INDEX object_digest ON object (digest, kind);
CREATE INDEX object_kind ON object (kind);
CREATE TABLE repository (path TEXT PRIMARY KEY, name TEXT NOT NULL, prefix TEXT NOT NULL, index_key TEXT NOT NULL,
                         index_etag TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX repository_name ON repository (name);
CREATE TABLE ours (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE tag (repository TEXT, name TEXT, digest TEXT NOT NULL, PRIMARY KEY (repository, name)) WITHOUT ROWID;
CREATE TABLE member (repository TEXT, digest TEXT, media_type TEXT, size INTEGER,
                     PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE INDEX member_digest ON member (digest);
CREATE TABLE manifest (digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER,
                       problem TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE reference (manifest TEXT, digest TEXT, size INTEGER NOT NULL, kind TEXT, media_type TEXT NOT NULL,
                        PRIMARY KEY (manifest, kind, digest)) WITHOUT ROWID;
CREATE TABLE hashed (key TEXT PRIMARY KEY, etag TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE body (digest TEXT PRIMARY KEY, data BLOB NOT NULL, modified REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE bad (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE wanted (repository TEXT, digest TEXT, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE INDEX wanted_digest ON wanted (digest);
CREATE TABLE unlinked (repository TEXT, digest TEXT, kind TEXT, is_elsewhere INTEGER NOT NULL,
                       PRIMARY KEY (repository, digest, kind)) WITHOUT ROWID;
CREATE TABLE named (digest TEXT PRIMARY KEY, low INTEGER, high INTEGER) WITHOUT ROWID;
CREATE TABLE uncopied (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, manifest INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE location (digest TEXT, key TEXT, size INTEGER NOT NULL, PRIMARY KEY (digest, key)) WITHOUT ROWID;
CREATE TABLE restored (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Tables:
    """Private to this process, and gone with it. Any thread; one at a time is let in."""

    def __init__(self) -> None:
        # An empty name is a database in a temporary file that SQLite removes as soon as it is open.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._lock = threading.RLock()
        for setting in (f"cache_size = -{_CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.executescript(_SCHEMA)
        self._connection.execute("BEGIN")  # never ended: no other connection sees it, and it is not to survive

    def put(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add rows; one that is there already stays as it is."""
        kept = list(rows)
        if kept:
            marks = ", ".join("?" * len(kept[0]))
            with self._use() as connection:
                connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", kept)

    def do(self, statement: str, *parameters: object) -> int:
        """Run a statement; returns how many rows it changed."""
        with self._use() as connection:
            return connection.execute(statement, parameters).rowcount

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows of a result that is known to be small."""
        with self._use() as connection:
            return connection.execute(statement, parameters).fetchall()

    def row(self, statement: str, *parameters: object) -> tuple[Any, ...] | None:
        """The first row; None if there is none."""
        with self._use() as connection:
            found: tuple[Any, ...] | None = connection.execute(statement, parameters).fetchone()
        return found

    def value(self, statement: str, *parameters: object) -> Any:  # noqa: ANN401 - whatever SQLite has
        """The first column of the first row; None if there is none."""
        row = self.row(statement, *parameters)
        return None if row is None else row[0]

    def total(self, condition: str, *parameters: object) -> tuple[int, int]:
        """How many rows there are after ``FROM``, and the sum of their column ``size``."""
        ((count, size),) = self.rows(f"SELECT count(*), coalesce(sum(size), 0) FROM {condition}", *parameters)
        return count, size

    def each(self, statement: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a result of any length. No thread may change its tables meanwhile."""
        with self._use() as connection:
            cursor = connection.execute(statement, parameters)
        while True:
            with self._use():
                page = cursor.fetchmany(BATCH)
            if not page:
                return
            yield from page

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread. Raises OSError if its file cannot grow."""
        with self._lock:
            try:
                yield self._connection
            except sqlite3.OperationalError as error:
                message = f"the temporary file of the review: {error}; SQLITE_TMPDIR names another directory for it"
                raise OSError(message) from error

    def close(self) -> None:
        """Free the file. May be called twice."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
