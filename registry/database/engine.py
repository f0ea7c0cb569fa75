"""The connection to the cache DB: short read and write transactions, and what SQLite and PostgreSQL do differently."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

READERS = 40
"""Connections for reads; at least as many as there are threads that serve requests."""
BUSY_TIMEOUT = 30.0
"""Seconds that a transaction waits for a lock that another program holds."""


class Database:
    """A pool of connections. Every method may be called from any thread.

    ``read`` gives one consistent view; ``write`` is serialised against every other writer of a SQLite file, across
    processes. Keep both short: no call to storage inside.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._lock: _WriteLock | None = None
        if self.is_sqlite:
            self._lock = _WriteLock(self.path)
            self._reader = _sqlite_engine(url, begin="BEGIN", size=READERS)
            self._writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE", size=1)
        else:
            self._reader = self._writer = create_engine(
                self.url, pool_size=READERS, max_overflow=0, pool_pre_ping=True, pool_timeout=BUSY_TIMEOUT
            )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is one file on this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        """The file of a SQLite database."""
        return Path(self.url.database or "")

    @property
    def engine(self) -> Engine:
        """For schema migrations and inspection."""
        return self._writer

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database. Raises DatabaseUnavailable."""
        with _mapped_errors(), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits when the block ends and rolls back when it raises. Raises DatabaseUnavailable."""
        with _mapped_errors(), self._lock or contextlib.nullcontext(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._reader.dispose()
        self._writer.dispose()
        if self._lock:
            self._lock.close()


class _WriteLock:
    """Lets one thread of one process write at a time, in the order of arrival; SQLite itself polls, which is slow and unfair.

    The lock file is advisory: other programs that write are still kept apart by SQLite's own locks.
    """

    def __init__(self, database: Path) -> None:
        database.parent.mkdir(parents=True, exist_ok=True)
        self._threads = threading.Lock()
        self._file = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *exc: object) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        os.close(self._file)


def _sqlite_engine(url: str, *, begin: str, size: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI's own connection
        # NORMAL: a power cut may lose the last transactions, never the file; storage is then ahead and is reconciled.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "cache_size=-8192",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


@contextlib.contextmanager
def _mapped_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise DatabaseUnavailable(str(error.orig)) from error
