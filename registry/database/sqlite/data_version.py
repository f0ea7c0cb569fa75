"""Whether what a process remembers of the database is still current: asked before each use (design, section 4)."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from registry.database.engine import Database
    from registry.database.postgresql.repository_versions import Versions


class Currency(Protocol):
    """Tells a reader, without a transaction, whether the database has changed. For one thread."""

    def mark(self) -> int | None:
        """A number that differs after any commit of any process; None where the database offers none, or fails.

        Read it before the rows: rows read after a mark are at least as new as that mark.
        """
        ...

    def version(self, repository: str) -> int | None:
        """The repository's version now, or None when there is no such repository, or the database fails."""
        ...

    def close(self) -> None:
        """Free the connection."""
        ...


class SqliteCurrency:
    """``PRAGMA data_version`` on a connection that never writes: 3 µs."""

    def __init__(self, path: str) -> None:
        # Asked in the event loop: where another program locks the file it says so at once.
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._cursor = self._connection.cursor()

    def mark(self) -> int | None:
        """See Currency."""
        try:
            row: tuple[int] = self._cursor.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None  # a caller that asks the database itself is told what is wrong with it
        return row[0]

    def version(self, repository: str) -> int | None:
        """See Currency."""
        try:
            row = self._cursor.execute("SELECT version FROM repository WHERE name = ?", (repository,)).fetchone()
        except sqlite3.Error:
            return None
        return row[0] if row else None

    def close(self) -> None:
        """See Currency."""
        self._connection.close()


def currency_of(database: Database) -> Currency | None:
    """None: this database has to be waited for (see ``connect_versions``)."""
    return SqliteCurrency(str(database.path)) if database.is_sqlite else None


def connect_versions(database: Database) -> Versions:
    """For a database that has no Currency. Waits for its server. Raises DatabaseUnavailable."""
    from registry.database.postgresql.repository_versions import Versions  # noqa: PLC0415 - its library is there only with PostgreSQL

    return Versions(database)
