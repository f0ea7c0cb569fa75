"""A listing of the bucket and what was read from it: a temporary SQLite file, so that memory stays bounded."""

from __future__ import annotations

import itertools
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry.migration.source.layout import KeyInfo
    from registry.storage.driver import StorageDriver

BATCH = 1000
"""Rows that are put in at once: a page of a listing."""
SERVABLE = "EXISTS (SELECT 1 FROM manifest f WHERE f.digest = {0}.digest AND f.problem = '')"
"""A condition on a row with the digest of a manifest: that could be read, and understood."""
_CACHE_KIB = 32 << 10
_SCHEMA = """
CREATE TABLE object (key TEXT PRIMARY KEY, kind TEXT NOT NULL, repository TEXT NOT NULL, digest TEXT NOT NULL,
                     size INTEGER NOT NULL, signature TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX object_repository ON object (repository, kind);
CREATE INDEX object_digest ON object (digest, kind);
CREATE INDEX object_kind ON object (kind);
CREATE TABLE repository (path TEXT PRIMARY KEY, name TEXT NOT NULL, prefix TEXT NOT NULL, index_key TEXT NOT NULL,
                         index_signature TEXT NOT NULL) WITHOUT ROWID;
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
CREATE TABLE hashed (key TEXT PRIMARY KEY, signature TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE body (digest TEXT PRIMARY KEY, data BLOB NOT NULL, modified REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE bad (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE wanted (repository TEXT, digest TEXT, PRIMARY KEY (repository, digest)) WITHOUT ROWID;
CREATE INDEX wanted_digest ON wanted (digest);
CREATE TABLE unlinked (repository TEXT, digest TEXT, kind TEXT, is_elsewhere INTEGER NOT NULL,
                       PRIMARY KEY (repository, digest, kind)) WITHOUT ROWID;
CREATE TABLE named (digest TEXT PRIMARY KEY, low INTEGER, high INTEGER) WITHOUT ROWID;
CREATE TABLE uncopied (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, manifest INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE place (digest TEXT, key TEXT, size INTEGER NOT NULL, PRIMARY KEY (digest, key)) WITHOUT ROWID;
"""


class Change(NamedTuple):
    """A key that is not as it was: it came, went, or has other bytes."""

    key: str
    entry: KeyInfo
    before: tuple[int, str] | None
    """Size and signature; None where it was not there."""
    now: tuple[int, str] | None


class Inventory:
    """Private to this process, and gone with it. Any thread; one at a time is let in."""

    def __init__(self) -> None:
        # An empty name is a database in a temporary file that SQLite removes as soon as it is open.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._lock = threading.RLock()
        for setting in (f"cache_size = -{_CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE"):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.executescript(_SCHEMA)
        self._connection.execute("BEGIN")  # never ended: nobody else is to see it, and it is not to survive

    def fill(
        self, driver: StorageDriver, classify: Callable[[str], KeyInfo | None], on_listed: Callable[[int], None]
    ) -> int:
        """List the whole root once; returns how many objects were seen. Raises StorageError.

        Left out is what ``classify`` knows nothing of. ``on_listed`` hears of the count as it grows.
        """
        seen = 0
        listing = iter(driver.list(""))
        while page := list(itertools.islice(listing, BATCH)):
            entries = ((key, classify(key), stat) for key, stat in page)
            self.put(
                "object",
                [
                    (key, entry.kind, entry.repository, entry.digest, stat.size, stat.signature)
                    for key, entry, stat in entries
                    if entry is not None
                ],
            )
            seen += len(page)
            on_listed(seen)
        return seen

    def changes(
        self, driver: StorageDriver, classify: Callable[[str], KeyInfo | None], on_listed: Callable[[int], None]
    ) -> Iterator[Change]:
        """List the whole root again and compare it, as it comes, with what ``fill`` saw. Raises StorageError.

        By key. Left out is what ``classify`` knows nothing of. Nobody may change the table ``object`` meanwhile.
        """
        before = self.each("SELECT key, size, signature FROM object ORDER BY key")
        known = next(before, None)
        for seen, (key, stat) in enumerate(driver.list(""), 1):
            if seen % BATCH == 0:
                on_listed(seen)
            while known is not None and known[0] < key:
                yield _change(classify, known[0], known[1:], None)
                known = next(before, None)
            noted = known[1:] if known is not None and known[0] == key else None
            if noted is not None:
                known = next(before, None)
            if noted != (stat.size, stat.signature) and classify(key) is not None:
                yield _change(classify, key, noted, (stat.size, stat.signature))
        while known is not None:
            yield _change(classify, known[0], known[1:], None)
            known = next(before, None)

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

    def each(self, statement: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        """The rows of a result of any length. Nobody may change its tables meanwhile."""
        with self._use() as connection:
            cursor = connection.execute(statement, parameters)
        while True:
            with self._use():
                page = cursor.fetchmany(BATCH)
            if not page:
                return
            yield from page

    def value(self, statement: str, *parameters: object) -> Any:  # noqa: ANN401 - whatever SQLite has
        """The first column of the first row; None where there is none."""
        with self._use() as connection:
            row = connection.execute(statement, parameters).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread. Raises OSError where its file cannot grow."""
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


def _change(
    classify: Callable[[str], KeyInfo | None],
    key: str,
    before: tuple[int, str] | None,
    now: tuple[int, str] | None,
) -> Change:
    entry = classify(key)
    if entry is None:
        raise ValueError(f"what is left out of a listing cannot have changed: {key}")
    return Change(key, entry, before, now)
