"""*Server*: connections to a PostgreSQL server, none of which is waited for without a deadline.

What the server would enforce by itself it is told too, so that it ends what its client has given up, and lets go of the
locks of a client that it hears of no more.

Tests: ``tests/database/test_silence.py``.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.errors import ConnectionTimeout, error_from_result
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from registry.database.errors import DatabaseUrlInvalid
from registry.database.postgresql.pipeline import Pipeline, Silent
from registry.database.postgresql.transaction import PostgresqlTransaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.pq.abc import PGconn
    from sqlalchemy import URL, Connection, Dialect

    from registry.database.connections.circuit import Circuit

PLANS = (
    "SET enable_seqscan TO off",
    "SET enable_bitmapscan TO off",
    "SET enable_hashjoin TO off",
    "SET enable_mergejoin TO off",
    "SET jit TO off",
    "SET plan_cache_mode TO force_generic_plan",
)
"""Our statements look a few rows up by their keys, and are planned once for each connection.

What was planned while a table was empty reads the whole of it, also for foreign keys, until the table is analysed.
"""
GRACE = 1.0
"""Seconds beyond its own limit that a server which works may take to say that it has ended a statement."""
_NETWORK = {
    # A peer that a network has swallowed is found within 20 seconds, also by a connection that only waits.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}


def dialect_of(url: URL) -> Dialect:
    """What compiles statements for the server, with its DBAPI."""
    kind: Any = url.get_dialect()
    dialect: Dialect = kind(dbapi=kind.import_dbapi())
    return dialect


class Server:
    """Makes connections. Any thread."""

    def __init__(self, url: URL, dialect: Dialect, circuit: Circuit, *, timeout: float, connect_timeout: float) -> None:
        """``timeout``: seconds that an answer may take. ``circuit`` is told of a server that is silent.

        Raises DatabaseUrlInvalid.
        """
        _, self._options = dialect.create_connect_args(url)
        self._options.pop("context", None)  # how SQLAlchemy has psycopg read what it asks, which nothing here does
        try:
            make_conninfo("", **self._options)
        except psycopg.ProgrammingError as error:
            raise DatabaseUrlInvalid(str(error).strip()) from None
        self._circuit = circuit
        self._connect_timeout = connect_timeout
        self.timeout = timeout
        limit = f"'{timeout * 1000:.0f}ms'"
        self._settings = (
            *PLANS,
            f"SET statement_timeout TO {limit}",
            f"SET idle_in_transaction_session_timeout TO {limit}",
        )

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection, on which nothing was asked yet. Raises psycopg.Error."""
        began = monotonic()
        options = {"connect_timeout": max(1, round(self._connect_timeout)), **_NETWORK, **self._options}
        try:
            return psycopg.connect(**options, autocommit=True)
        except ConnectionTimeout:
            self._circuit.open("the database accepts no connection", since=began)
            raise

    def link(self) -> Link:
        """A new connection for transactions. Raises psycopg.Error."""
        connection = self.connect()
        try:
            pipeline = Pipeline(connection, self._connect_timeout, self._note_silence)
            transaction = PostgresqlTransaction(pipeline)
            for command in self._settings:
                transaction.run(command)
            transaction.settle()
            pipeline.seconds = self.timeout + GRACE
        except BaseException:
            connection.close()
            raise
        return Link(connection, transaction)

    def prepare(self, connection: psycopg.Connection[Any], settings: str, name: bytes, sql: bytes) -> None:
        """Run ``settings`` and prepare a statement on a connection that is not used by a pipeline.

        Raises psycopg.Error.
        """
        server: PGconn = connection.pgconn
        server.nonblocking = 1
        deadline = monotonic() + self._connect_timeout
        server.send_query(settings.encode())
        self._take(server, deadline)
        server.send_prepare(name, sql)
        self._take(server, deadline)

    @contextlib.contextmanager
    def schema(self, seconds: float | None) -> Iterator[Connection]:
        """SQLAlchemy's own connection, without a transaction, for ``seconds`` at most; None for ``timeout``.

        Raises errors of psycopg and of SQLAlchemy.
        """
        connection = self.connect()
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: connection, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        try:
            with _limited(connection, seconds or self.timeout + GRACE), engine.connect() as made:
                yield made
        finally:
            connection.close()

    def _take(self, server: PGconn, deadline: float) -> None:
        """The results of one query, which returns no rows."""
        readable = select.poll()
        readable.register(server.socket, select.POLLIN)
        server.flush()
        while True:
            while server.is_busy():
                left = deadline - monotonic()
                if left <= 0 or not readable.poll(left * 1000):
                    self._note_silence(deadline - self._connect_timeout)
                    raise Silent(self._connect_timeout)
                server.consume_input()
            result = server.get_result()
            if result is None:
                return
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise error_from_result(result)

    def _note_silence(self, since: float) -> None:
        self._circuit.open("the database does not answer", since=since)


class Link:
    """A connection, and the transactions that are made on it one after the other."""

    def __init__(self, connection: psycopg.Connection[Any], transaction: PostgresqlTransaction) -> None:
        self._connection = connection
        self._transaction = transaction

    def transaction(self) -> PostgresqlTransaction:
        """The one of this connection: it knows what the server has prepared."""
        return self._transaction

    def drop(self) -> None:
        """Close the connection, whatever is under way on it; its server is not waited for."""
        self._connection.close()


@contextlib.contextmanager
def _limited(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer. psycopg itself waits for an answer for ever. Raises Silent."""
    expired = threading.Event()
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as watched:

        def cut() -> None:
            expired.set()
            with contextlib.suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception as error:
            if expired.is_set():
                raise Silent(seconds) from error
            raise
        finally:
            timer.cancel()
            timer.join()
