"""The connection to the cache DB: short read and write transactions, and what SQLite and PostgreSQL do differently.

Tests: ``tests/database/test_transaction.py``.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Self

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from registry.clocks import Clocks
from registry.database.connections.circuit import Circuit
from registry.database.connections.pool import ConnectionPool, PooledTransaction
from registry.database.connections.wall_clock import WallClock
from registry.database.errors import DatabaseBusy, DatabaseUnavailable
from registry.database.sqlite.engine import SqliteLink, is_locked, open_engine
from registry.database.sqlite.group_commit import GroupCommit
from registry.database.sqlite.write_lock import WriteLock
from registry.database.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Dialect, PoolProxiedConnection

    from registry.config.settings import Settings
    from registry.database.connections.pool import MappedErrors
    from registry.database.postgresql.server import Server

CONNECTIONS = 40
"""Transactions at once, at most; at least as many as there are threads that serve requests."""
SPARE = 3
"""Connections beside these: SQLite's writer, its checkpoints, and changes of the schema."""
TIMEOUT = 10.0
"""Seconds that a transaction waits for the database, at each of its steps."""
CONNECT_TIMEOUT = 5.0
"""Seconds that a PostgreSQL server may take to accept a connection."""
LOG_PAGES = 8192
"""Pages (of 4 KiB) in the log of SQLite from which on it is begun anew."""
READERS_TIMEOUT = 0.2
"""Seconds that writers wait, while the log is begun anew, for readers that still use it."""


WRITING = 5_374_608
"""PostgreSQL's advisory lock that every write transaction shares and an exclusive one has alone: a number of ours."""
SHARED = f"SELECT pg_advisory_xact_lock_shared({WRITING})"
"""PostgreSQL: sent with BEGIN, in the same round trip. Waits while an exclusive transaction waits or runs."""
ALONE = f"SELECT pg_advisory_xact_lock({WRITING})"
NOT_DURABLE = "SET LOCAL synchronous_commit TO off"
"""PostgreSQL: the commit returns before it is on disk."""


class Database:
    """A pool of connections. Every method may be called from any thread.

    ``snapshot`` gives one consistent view; ``transaction`` is serialised against every other writer of a SQLite file,
    across processes. Keep both short: no call to storage inside.

    Nothing waits without a deadline. A database that is silent for ``timeout`` seconds is asked by one caller at a time
    from then on (see Circuit), and what was connected to it is thrown away.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        clocks: Clocks | None = None,
    ) -> None:
        """``clocks`` of this machine, by which rows of SQLite say when something ends; PostgreSQL has its own."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        """The database is one file on this machine."""
        self.clocks = clocks or Clocks()
        self.wall = WallClock(self.clocks, self.autocommit, is_own=self.is_sqlite)
        """The clock by which rows have their times."""
        self._timeout = timeout
        self.circuit = Circuit()
        """Open while PostgreSQL is silent, or while another program locks a SQLite file against writers."""
        self._lock: WriteLock | None = None
        self._group: GroupCommit | None = None
        self._server: Server | None = None
        if self.is_sqlite:
            self._lock = WriteLock(self.path, timeout)
            engine = self._engine = open_engine(
                url, connections=CONNECTIONS + SPARE, timeout=timeout, clocks=self.clocks
            )
            self._begin_read = ("BEGIN",)
            self._begin_write: tuple[str, ...] = ("BEGIN IMMEDIATE",)
            self._pool = ConnectionPool(
                lambda: SqliteLink(engine.raw_connection(), self.clocks),
                _error_of(engine.dialect),
                most=CONNECTIONS,
                timeout=timeout,
            )
            with self._pool.mapped_errors:
                self._writer: PoolProxiedConnection = engine.raw_connection()
            self._group = GroupCommit(self._lock, Transaction(self._writer.driver_connection, self.clocks), timeout)
        else:
            from registry.database.postgresql.server import Server, dialect_of  # noqa: PLC0415 - psycopg may not be installed

            dialect = dialect_of(self.url)
            server = self._server = Server(
                self.url, dialect, self.circuit, timeout=timeout, connect_timeout=connect_timeout
            )
            self._begin_read = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
            self._begin_write = ("BEGIN", SHARED)
            self._pool = ConnectionPool(
                server.link, _error_of(dialect), most=CONNECTIONS, timeout=timeout, circuit=self.circuit
            )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The one of these settings."""
        given = settings.database
        return cls(settings.database_url, timeout=given.timeout, connect_timeout=given.connect_timeout)

    @property
    def server(self) -> Server:
        """Connections to PostgreSQL that are none of the pool's. Raises LookupError for SQLite."""
        if self._server is None:
            raise LookupError("SQLite has no server")
        return self._server

    @property
    def serial_writes(self) -> bool:
        """Whether a write transaction sees all other writes: transactions run one after the other."""
        return self.is_sqlite

    @property
    def path(self) -> Path:
        """The file of a SQLite database."""
        return Path(self.url.database or "")

    def snapshot(self) -> contextlib.AbstractContextManager[Transaction]:
        """A transaction that sees one state of the database. Raises DatabaseUnavailable."""
        return PooledTransaction(self._pool, self._begin_read)

    def autocommit(self) -> contextlib.AbstractContextManager[Transaction]:
        """As ``snapshot``, for one statement, which sees one state, or for several that need not see the same."""
        return PooledTransaction(self._pool, ())

    def transaction(self, *, durable: bool = True) -> contextlib.AbstractContextManager[Transaction]:
        """A transaction that commits when the block ends and rolls back when it raises. Raises DatabaseUnavailable.

        Never within another of the same thread: it could wait for itself.
        Without ``durable`` a crash of the server, not of this process, may lose it: nothing was promised to anybody.
        """
        if self._group is not None:
            return _GroupWrite(self._group, self.circuit, self._pool.mapped_errors)
        return PooledTransaction(self._pool, self._begin_write if durable else (*self._begin_write, NOT_DURABLE))

    def statement(self) -> contextlib.AbstractContextManager[Transaction]:
        """As ``transaction``, for a block that executes one statement at most, and not ``durable``: it costs less."""
        if self._group is not None:
            return _GroupWrite(self._group, self.circuit, self._pool.mapped_errors, is_single=True)
        return self.transaction(durable=False)

    def exclusive(self) -> contextlib.AbstractContextManager[Transaction]:
        """As ``transaction``, begun when those of all processes have ended; none begins before this has ended.

        So what it changes does not change during a transaction that has read it.
        """
        if self._group is not None:
            return _GroupWrite(self._group, self.circuit, self._pool.mapped_errors)
        return PooledTransaction(self._pool, ("BEGIN", ALONE))

    @contextlib.contextmanager
    def schema(self, seconds: float | None = None) -> Iterator[Connection]:
        """A write transaction as SQLAlchemy's own connection, for migrations, which may take so many seconds.

        None for ``timeout``. Raises DatabaseUnavailable.
        """
        server = self._server
        with (
            self._lock or contextlib.nullcontext(),
            self._pool.mapped_errors,
            self._engine.connect() if server is None else server.schema(seconds) as connection,
        ):
            connection.exec_driver_sql(self._begin_write[0])
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                with contextlib.suppress(SQLAlchemyError):  # of a connection that is lost
                    connection.exec_driver_sql("ROLLBACK")
                raise

    def checkpoint(self) -> None:
        """SQLite: move the log into the file, beside readers and writers. Call it every second or so."""
        if self._lock is None:
            return
        with self._pool.mapped_errors, contextlib.closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            _, pages, moved = cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > LOG_PAGES and pages - moved < LOG_PAGES:  # otherwise a reader holds an old snapshot
                # Under constant writes the log is never empty: it would grow for ever.
                cursor.execute(f"PRAGMA busy_timeout={READERS_TIMEOUT * 1000:.0f}")
                try:
                    with self._lock:
                        cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                finally:
                    cursor.execute(f"PRAGMA busy_timeout={self._timeout * 1000:.0f}")
            cursor.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.forget_idle()
        if self._group:
            self._writer.close()
            self._engine.dispose()
        if self._lock:
            self._lock.close()


def _error_of(dialect: Dialect) -> type[Exception]:
    """The base of all errors of its DBAPI."""
    error: type[Exception] = dialect.dbapi.Error  # type: ignore[union-attr]
    return error


class _GroupWrite:
    """A write transaction of SQLite, which opens or closes the circuit as it ends; no generator."""

    __slots__ = ("_began", "_circuit", "_group", "_is_single", "_mapped")

    def __init__(
        self, group: GroupCommit, circuit: Circuit, mapped_errors: MappedErrors, *, is_single: bool = False
    ) -> None:
        self._group = group
        self._is_single = is_single
        self._circuit = circuit
        self._mapped = mapped_errors

    def __enter__(self) -> Transaction:
        self._began = monotonic()
        self._circuit.enter()
        try:
            with self._mapped:
                return self._group.enter_single() if self._is_single else self._group.__enter__()
        except DatabaseUnavailable as error:
            self._note(error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            with self._mapped:
                self._group.__exit__(kind, error, trace)
            self._mapped.__exit__(kind, error, trace)
        except DatabaseUnavailable as unavailable:
            self._note(unavailable)
            raise
        if isinstance(error, DatabaseUnavailable):
            self._note(error)
        elif error is None and self._circuit.is_open:
            self._circuit.close()

    def _note(self, error: DatabaseUnavailable) -> None:
        if isinstance(error, DatabaseBusy) or is_locked(error.__cause__):
            self._circuit.open(str(error), since=self._began)
