"""The connection to the cache DB: short read and write transactions, and what SQLite and PostgreSQL do differently."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from registry.database.errors import DatabaseUnavailable
from registry.database.group_commit import GroupCommit
from registry.database.transaction import Transaction
from registry.database.write_lock import WriteLock
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import URL, Connection, Engine, PoolProxiedConnection

CONNECTIONS = 40
"""Transactions at once, at most; at least as many as there are threads that serve requests."""
SPARE = 3
"""Connections beside these: SQLite's writer, its checkpoints, and changes of the schema."""
CONNECT_TIMEOUT = 5
"""Seconds that a PostgreSQL server may take to accept a connection."""
BUSY_TIMEOUT = 30.0
"""Seconds that a transaction waits for a lock that another program holds."""
LOG_PAGES = 8192
"""Pages (of 4 KiB) in the log of SQLite from which on it is begun anew."""
READERS_TIMEOUT = 0.2
"""Seconds that writers wait, while the log is begun anew, for readers that still use it."""
PRAGMAS = (
    "journal_mode=WAL",
    # A power cut may lose the last transactions, never the file; storage is then ahead and is reconciled.
    "synchronous=NORMAL",
    # Moving the log into the file syncs: ``checkpoint`` does it, never a transaction that a request waits for.
    "wal_autocheckpoint=0",
    # Bytes that a log that was longer keeps on disk once it is begun anew.
    "journal_size_limit=67108864",
    "foreign_keys=ON",
    # KiB for each connection; behind it is the page cache of the system, which all share.
    "cache_size=-2048",
    "temp_store=MEMORY",
)


WRITING = 5_374_608
"""PostgreSQL's advisory lock that every write transaction shares and an exclusive one has alone: a number of ours."""
SHARED = f"SELECT pg_advisory_xact_lock_shared({WRITING})"
"""PostgreSQL: sent with BEGIN, in the same round trip. Waits while an exclusive transaction waits or runs."""
ALONE = f"SELECT pg_advisory_xact_lock({WRITING})"
NOT_DURABLE = "SET LOCAL synchronous_commit TO off"
"""PostgreSQL: the commit returns before it is on disk."""


PLANS = (
    "SET enable_seqscan TO off",
    "SET enable_bitmapscan TO off",
    "SET enable_hashjoin TO off",
    "SET enable_mergejoin TO off",
    "SET jit TO off",
    "SET plan_cache_mode TO force_generic_plan",
)
"""PostgreSQL: our statements look a few rows up by their keys, and are planned once for each connection.

What was planned while a table was empty reads the whole of it, also for foreign keys, until somebody analyses it.
"""


class Database:
    """A pool of connections. Every method may be called from any thread.

    ``read`` gives one consistent view; ``write`` is serialised against every other writer of a SQLite file, across
    processes. Keep both short: no call to storage inside.
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._lock: WriteLock | None = None
        self._group: GroupCommit | None = None
        self._idle: deque[PoolProxiedConnection] = deque()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        """Who has one finds a connection, idle or new: the pool, to which none is given back, is never empty then."""
        if self.is_sqlite:
            self._lock = WriteLock(self.path)
            self.engine = _sqlite_engine(url)
            self._begin_read = ("BEGIN",)
            self._begin_write: tuple[str, ...] = ("BEGIN IMMEDIATE",)
            with self._mapped_errors():
                self._writer = self._connect()
            self._group = GroupCommit(self._lock, Transaction(self._writer.driver_connection, self.engine.dialect))
        else:
            self.engine = _postgresql_engine(self.url)
            self._begin_read = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
            self._begin_write = ("BEGIN", SHARED)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is one file on this machine."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def serial_writes(self) -> bool:
        """Whether a write transaction sees all that others write: they go one after the other from their beginning."""
        return self.is_sqlite

    @property
    def path(self) -> Path:
        """The file of a SQLite database."""
        return Path(self.url.database or "")

    def read(self) -> contextlib.AbstractContextManager[Transaction]:
        """A transaction that sees one state of the database. Raises DatabaseUnavailable."""
        return self._transaction(self._begin_read)

    def look(self) -> contextlib.AbstractContextManager[Transaction]:
        """As ``read``, for one statement, which sees one state by itself, or for several that need not see the same."""
        return self._transaction(())

    def write(self, *, durable: bool = True) -> contextlib.AbstractContextManager[Transaction]:
        """A transaction that commits when the block ends and rolls back when it raises. Raises DatabaseUnavailable.

        Never within another of the same thread: it could wait for itself.
        Without ``durable`` a crash of the server, not of this process, may lose it: nothing was promised to anybody.
        """
        if self._group is not None:
            return self._write_in_group(self._group)
        return self._transaction(self._begin_write if durable else (*self._begin_write, NOT_DURABLE))

    def exclusive(self) -> contextlib.AbstractContextManager[Transaction]:
        """As ``write``, begun when all others have ended, in all processes; no other begins before this has ended.

        So what it changes does not change during a transaction that has read it.
        """
        if self._group is not None:
            return self._write_in_group(self._group)
        return self._transaction(("BEGIN", ALONE))

    @contextlib.contextmanager
    def schema(self) -> Iterator[Connection]:
        """A write transaction as SQLAlchemy's own connection, for migrations. Raises DatabaseUnavailable."""
        with self._lock or contextlib.nullcontext(), self._mapped_errors(), self.engine.connect() as connection:
            connection.exec_driver_sql(self._begin_write[0])
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise

    def checkpoint(self) -> None:
        """SQLite: move the log into the file, beside readers and writers. Call it every second or so."""
        if self._lock is None:
            return
        with self._mapped_errors(), contextlib.closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            _, pages, moved = cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > LOG_PAGES and pages - moved < LOG_PAGES:  # otherwise somebody reads what is long gone
                # Where somebody writes all the time the log is never empty: it would grow for ever.
                cursor.execute(f"PRAGMA busy_timeout={READERS_TIMEOUT * 1000:.0f}")
                try:
                    with self._lock:
                        cursor.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                finally:
                    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT * 1000:.0f}")
            cursor.close()

    def close(self) -> None:
        """Close all connections."""
        while self._idle:
            self._idle.pop().close()
        if self._group:
            self._writer.close()
        self.engine.dispose()
        if self._lock:
            self._lock.close()

    @contextlib.contextmanager
    def _write_in_group(self, group: GroupCommit) -> Iterator[Transaction]:
        with self._mapped_errors(), group.write() as own:
            yield own

    @contextlib.contextmanager
    def _transaction(self, begin: Sequence[str]) -> Iterator[Transaction]:
        """Begun by these commands, and committed; without any it is what its statement does by itself."""
        self._wait_for_one()
        try:
            with self._mapped_errors():
                connection = self._take()
                transaction = self._on(connection)
                try:
                    for command in begin:
                        transaction.run(command)
                    yield transaction
                    if begin:
                        transaction.commit()
                    else:
                        transaction.settle()
                except BaseException as error:
                    self._roll_back(connection, transaction, begun=bool(begin), error=error)
                    raise
                transaction.close()
                self._idle.append(connection)
        finally:
            self._free.release()

    def _wait_for_one(self) -> None:
        """Raises DatabaseUnavailable where others keep all connections."""
        if self._free.acquire(blocking=False):
            return
        with waiting:
            if not self._free.acquire(timeout=BUSY_TIMEOUT):
                message = f"all {CONNECTIONS} connections to the database were in use for {BUSY_TIMEOUT} seconds"
                raise DatabaseUnavailable(message)

    def _on(self, connection: PoolProxiedConnection) -> Transaction:
        if self.is_sqlite:
            return Transaction(connection.driver_connection, self.engine.dialect)
        known: Transaction | None = connection.info.get("transaction")
        if known is not None:
            return known
        try:
            return self._on_postgresql(connection)
        except BaseException:
            connection.invalidate()
            raise

    def _on_postgresql(self, connection: PoolProxiedConnection) -> Transaction:
        """The one of a connection, for all that are ever made on it: it knows what the server has prepared."""
        from registry.database.pipeline import Pipeline  # noqa: PLC0415 - psycopg may not be installed
        from registry.database.postgresql import PostgresqlTransaction  # noqa: PLC0415 - as above

        server: Any = connection.driver_connection
        made = PostgresqlTransaction(Pipeline(server))
        for command in PLANS:
            made.run(command)
        made.settle()
        connection.info["transaction"] = made
        return made

    def _take(self) -> PoolProxiedConnection:
        """The connection used last, or a new one: the pool of SQLAlchemy costs more than one of our transactions."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> PoolProxiedConnection:
        return self.engine.raw_connection()

    def _roll_back(
        self, connection: PoolProxiedConnection, transaction: Transaction, *, begun: bool, error: BaseException
    ) -> None:
        broken = isinstance(error, self._dbapi_error)
        try:
            if begun:
                transaction.roll_back()
            else:
                transaction.settle()
            transaction.close()
        except self._dbapi_error:
            broken = True
        if broken:  # perhaps the server has gone: then every idle connection has, and new ones are made
            connection.invalidate()
            self._forget_idle()
        else:
            self._idle.append(connection)

    def _forget_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError, self._dbapi_error):
                self._idle.pop().invalidate()

    @property
    def _dbapi_error(self) -> type[Exception]:
        error: type[Exception] = self.engine.dialect.dbapi.Error  # type: ignore[union-attr]
        return error

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self._dbapi_error) as error:
            raise DatabaseUnavailable(str(error)) from error


def _postgresql_engine(url: URL) -> Engine:
    """Without transactions of the driver's own: ours begin with a word that says which kind they are."""
    return create_engine(
        url,
        pool_size=CONNECTIONS + SPARE,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=BUSY_TIMEOUT,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": CONNECT_TIMEOUT, "keepalives_idle": 10, "tcp_user_timeout": 10_000},
    )


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=CONNECTIONS + SPARE,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT,
        pool_use_lifo=True,
        pool_reset_on_return=None,
        paramstyle="named",
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI's own connection
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").close()

    return engine
