"""*Repository versions*: the versions of repositories in a SQLite file, read anew only after a commit."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

KEPT = 100_000
"""Versions that are kept at most."""


class RepositoryVersions:
    """A connection that never writes: its ``PRAGMA data_version`` differs after any commit of any process, in 3 µs.

    For one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        # Asked in the event loop: where another program locks the file it says so at once.
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        self._cursor = self._connection.cursor()
        self._data_version = 0
        self._known: dict[str, int] = {}
        """Versions of repositories, as they are since a commit changed the data version to the one above."""

    def read(self, names: Collection[str]) -> Mapping[str, int]:
        """The versions of at least these repositories, without those that do not exist, as they are now.

        Raises DatabaseUnavailable.
        """
        try:
            (data_version,) = self._cursor.execute("PRAGMA data_version").fetchone()
            if data_version != self._data_version or len(self._known) > KEPT:
                self._known.clear()
                self._data_version = data_version
            for name in names:
                if name not in self._known:  # a commit in between makes it newer, and is seen by the next call
                    row = self._cursor.execute("SELECT version FROM repository WHERE name = ?", (name,)).fetchone()
                    if row is not None:
                        self._known[name] = row[0]
        except sqlite3.Error as error:
            raise DatabaseUnavailable(str(error)) from error
        return self._known

    def close(self) -> None:
        """Free the connection."""
        self._connection.close()
