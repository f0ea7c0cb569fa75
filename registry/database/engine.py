"""The connection to the cache DB: short read and write transactions, and what SQLite and PostgreSQL do differently.

Tests: ``tests/database/test_transaction.py``.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Protocol, Self

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from registry.database.circuit import Circuit
from registry.database.errors import DatabaseBusy, DatabaseUnavailable
from registry.database.sqlite.engine import SqliteLink, is_locked, open_engine
from registry.database.sqlite.group_commit import GroupCommit
from registry.database.sqlite.write_lock import WriteLock
from registry.database.transaction import Transaction
from registry.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Dialect, Engine, PoolProxiedConnection

    from registry.config.settings import Settings
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


class Link(Protocol):
    """A connection that is kept."""

    def transaction(self) -> Transaction:
        """What the next transaction on it is run with."""
        ...

    def drop(self) -> None:
        """Close it, whatever is under way; nothing is waited for."""
        ...


class Database:
    """A pool of connections. Every method may be called from any thread.

    ``snapshot`` gives one consistent view; ``transaction`` is serialised against every other writer of a SQLite file,
    across processes. Keep both short: no call to storage inside.

    Nothing waits without a deadline. A database that is silent for ``timeout`` seconds is asked by one caller at a time
    from then on (see Circuit), and what was connected to it is thrown away.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT, connect_timeout: float = CONNECT_TIMEOUT) -> None:
        self.url = make_url(url)
        self._timeout = timeout
        self.circuit = Circuit()
        """Open while PostgreSQL is silent, or while another program locks a SQLite file against writers."""
        self.dialect: Dialect
        self._lock: WriteLock | None = None
        self._group: GroupCommit | None = None
        self._server: Server | None = None
        self._idle: deque[Link] = deque()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        """A thread that has one finds a connection, idle or new: the pool is never empty then."""
        if self.is_sqlite:
            self._lock = WriteLock(self.path, timeout)
            self._engine: Engine = open_engine(url, connections=CONNECTIONS + SPARE, timeout=timeout)
            self.dialect = self._engine.dialect
            self._begin_read = ("BEGIN",)
            self._begin_write: tuple[str, ...] = ("BEGIN IMMEDIATE",)
            with self._mapped_errors():
                self._writer: PoolProxiedConnection = self._engine.raw_connection()
            self._group = GroupCommit(self._lock, Transaction(self._writer.driver_connection, self.dialect), timeout)
        else:
            from registry.database.postgresql.server import Server, dialect_of  # noqa: PLC0415 - psycopg may not be installed

            self.dialect = dialect_of(self.url)
            self._server = Server(
                self.url, self.dialect, self.circuit, timeout=timeout, connect_timeout=connect_timeout
            )
            self._begin_read = ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",)
            self._begin_write = ("BEGIN", SHARED)

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
    def is_sqlite(self) -> bool:
        """Whether the database is one file on this machine."""
        return self.url.get_backend_name() == "sqlite"

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
        return self._transaction(self._begin_read)

    def autocommit(self) -> contextlib.AbstractContextManager[Transaction]:
        """As ``snapshot``, for one statement, which sees one state, or for several that need not see the same."""
        return self._transaction(())

    def transaction(self, *, durable: bool = True) -> contextlib.AbstractContextManager[Transaction]:
        """A transaction that commits when the block ends and rolls back when it raises. Raises DatabaseUnavailable.

        Never within another of the same thread: it could wait for itself.
        Without ``durable`` a crash of the server, not of this process, may lose it: nothing was promised to anybody.
        """
        if self._group is not None:
            return _GroupWrite(self._group, self.circuit, self._dbapi_error)
        return self._transaction(self._begin_write if durable else (*self._begin_write, NOT_DURABLE))

    def exclusive(self) -> contextlib.AbstractContextManager[Transaction]:
        """As ``transaction``, begun when those of all processes have ended; none begins before this has ended.

        So what it changes does not change during a transaction that has read it.
        """
        if self._group is not None:
            return _GroupWrite(self._group, self.circuit, self._dbapi_error)
        return self._transaction(("BEGIN", ALONE))

    @contextlib.contextmanager
    def schema(self, seconds: float | None = None) -> Iterator[Connection]:
        """A write transaction as SQLAlchemy's own connection, for migrations, which may take so many seconds.

        None for ``timeout``. Raises DatabaseUnavailable.
        """
        server = self._server
        with (
            self._lock or contextlib.nullcontext(),
            self._mapped_errors(),
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
        with self._mapped_errors(), contextlib.closing(self._engine.raw_connection()) as connection:
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
        self._forget_idle()
        if self._group:
            self._writer.close()
            self._engine.dispose()
        if self._lock:
            self._lock.close()

    @contextlib.contextmanager
    def _transaction(self, begin: Sequence[str]) -> Iterator[Transaction]:
        """Begun by these commands, and committed; without any it is what its statement does by itself."""
        if self._server is not None:
            self.circuit.enter()
        self._wait_for_one()
        try:
            with self._mapped_errors():
                link = self._take()
                transaction = link.transaction()
                try:
                    for command in begin:
                        transaction.run(command)
                    yield transaction
                    if begin:
                        transaction.commit()
                    else:
                        transaction.settle()
                except BaseException as error:
                    self._roll_back(link, transaction, begun=bool(begin), error=error)
                    raise
                transaction.close()
                self._idle.append(link)
        finally:
            self._free.release()

    def _wait_for_one(self) -> None:
        """Raises DatabaseUnavailable where all connections stay in use."""
        if self._free.acquire(blocking=False):
            return
        with waiting:
            if not self._free.acquire(timeout=self._timeout):
                message = f"all {CONNECTIONS} connections to the database were in use for {self._timeout:g} seconds"
                raise DatabaseUnavailable(message)

    def _take(self) -> Link:
        """The connection used last, or a new one: the pool of SQLAlchemy costs more than one of our transactions."""
        if self._server is not None and self.circuit.is_open:
            self._forget_idle()
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        if self._server is None:
            return SqliteLink(self._engine.raw_connection(), self.dialect)
        link = self._server.link()
        if self.circuit.is_open:
            self.circuit.close()
        return link

    def _roll_back(self, link: Link, transaction: Transaction, *, begun: bool, error: BaseException) -> None:
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
            link.drop()
            self._forget_idle()
        else:
            self._idle.append(link)

    def _forget_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError, self._dbapi_error):
                self._idle.pop().drop()

    @property
    def _dbapi_error(self) -> type[Exception]:
        error: type[Exception] = self.dialect.dbapi.Error  # type: ignore[union-attr]
        return error

    def _mapped_errors(self) -> contextlib.AbstractContextManager[None]:
        return _MappedErrors(self._dbapi_error)


class _MappedErrors:
    """Raises DatabaseUnavailable for an error of the database; no generator, since each transaction enters one."""

    __slots__ = ("_dbapi_error",)

    def __init__(self, dbapi_error: type[Exception]) -> None:
        self._dbapi_error = dbapi_error

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (SQLAlchemyError, self._dbapi_error)):
            raise DatabaseUnavailable(str(error)) from error


class _GroupWrite:
    """A write transaction of SQLite, which opens or closes the circuit as it ends; no generator, as above."""

    __slots__ = ("_began", "_circuit", "_group", "_mapped")

    def __init__(self, group: GroupCommit, circuit: Circuit, dbapi_error: type[Exception]) -> None:
        self._group = group
        self._circuit = circuit
        self._mapped = _MappedErrors(dbapi_error)

    def __enter__(self) -> Transaction:
        self._began = monotonic()
        self._circuit.enter()
        try:
            with self._mapped:
                return self._group.__enter__()
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
