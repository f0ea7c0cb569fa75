"""*SQLite*: how its files are opened, and which of its errors say that another program has locked them."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.pool import QueuePool

from registry.database.clock import add_functions
from registry.database.quotas.groups import name_matches
from registry.database.transaction import Transaction

if TYPE_CHECKING:
    from sqlalchemy import Engine, PoolProxiedConnection

    from registry.clocks import Clocks

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
PAUSE = 0.01
"""Seconds between two attempts at what SQLite does not wait for by itself."""


def open_engine(url: str, *, connections: int, timeout: float, clocks: Clocks) -> Engine:
    """At most so many connections, each of which waits ``timeout`` seconds for a lock of another program."""
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=timeout,
        pool_use_lifo=True,
        pool_reset_on_return=None,
        paramstyle="named",
        connect_args={"check_same_thread": False, "timeout": timeout, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI's own connection
        for pragma in PRAGMAS:
            _set(connection, pragma, timeout)
        connection.create_function("name_matches", 2, name_matches, deterministic=True)
        add_functions(connection, clocks)

    return engine


def _set(connection: Any, pragma: str, timeout: float) -> None:  # noqa: ANN401 - as above
    """Wait for a lock as any statement does: SQLite itself does not while it changes the journal mode of a new file."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute(f"PRAGMA {pragma}").close()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() >= deadline:
                raise
            time.sleep(PAUSE)
        else:
            return


def is_locked(error: BaseException | None) -> bool:
    """Whether another program kept the file for too long."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class SqliteLink:
    """A connection, and the transactions that are made on it one after the other."""

    def __init__(self, connection: PoolProxiedConnection, clocks: Clocks) -> None:
        self._connection = connection
        self._clocks = clocks
        self._driver_connection = connection.driver_connection

    def transaction(self) -> Transaction:
        """A new one."""
        return Transaction(self._driver_connection, self._clocks)

    def drop(self) -> None:
        """Close the connection."""
        self._connection.invalidate()
