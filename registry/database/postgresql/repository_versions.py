"""Repository versions on PostgreSQL, queried on a connection that no thread waits for (design, section 4).

A query is sent, and its rows are taken once they have arrived; the caller decides what waits in between.
So no other thread delays it, and it needs none of its own: half the time of a thread that asks.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from psycopg.pq.abc import PGconn, PGresult

    from registry.database.engine import Database

_SETTINGS = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off"
"""One plan for all queries, that is good however many repositories there will be: planning costs more than looking."""
_NAME = b"versions"
_SQL = rb"SELECT name, version FROM repository WHERE name = ANY (string_to_array($1, E'\n'))"


class RepositoryVersions:
    """One connection, outside of the pool and of any transaction. For one thread at a time, and one query at a time."""

    def __init__(self, database: Database) -> None:
        """Connect; waits for the server, but not where it is known to be silent. Raises DatabaseUnavailable."""
        database.circuit.enter()
        server = database.server
        try:
            self._connection: psycopg.Connection[Any] = server.connect()
        except psycopg.Error as error:
            raise DatabaseUnavailable(str(error)) from error
        self._server: PGconn = self._connection.pgconn
        try:
            self._watched = os.dup(self._server.socket)
        except (psycopg.Error, OSError) as error:
            self._connection.close()
            raise DatabaseUnavailable(str(error)) from error
        """The same socket under a number that libpq, which closes its own once it is lost, leaves alone."""
        self._result: PGresult | None = None
        try:
            server.prepare(self._connection, _SETTINGS, _NAME, _SQL)
        except psycopg.Error as error:
            self.close()
            raise DatabaseUnavailable(str(error)) from error

    def fileno(self) -> int:
        """The socket, readable when something of an answer has arrived; the same until ``close``."""
        return self._watched

    def send(self, names: Collection[str]) -> None:
        """Ask for the versions of repositories, whose names must fit into the buffer of a socket.

        Raises DatabaseUnavailable.
        """
        try:
            self._server.send_query_prepared(_NAME, ["\n".join(names).encode()])
            unsent = self._server.flush()
        except psycopg.Error as error:
            raise DatabaseUnavailable(str(error)) from error
        if unsent:
            raise DatabaseUnavailable("the server takes no more queries")

    def receive(self) -> Mapping[str, int] | None:
        """The versions by name, without missing repositories; None if not all rows have arrived. Raises as ``send``.

        Also raises where nothing was asked, and the connection is lost.
        """
        server = self._server
        try:
            server.consume_input()
            while not server.is_busy():
                result = server.get_result()
                if result is None:
                    return self._versions()
                self._result = result
        except psycopg.Error as error:
            raise DatabaseUnavailable(str(error)) from error
        return None

    def close(self) -> None:
        """Free the connection, which must not be watched any more; queries in flight are given up."""
        self._connection.close()
        os.close(self._watched)

    def _versions(self) -> Mapping[str, int] | None:
        result, self._result = self._result, None
        if result is None:
            return None
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise DatabaseUnavailable(self._server.get_error_message())
        rows = ((result.get_value(row, 0), result.get_value(row, 1)) for row in range(result.ntuples))
        return {name.decode(): int(version) for name, version in rows if name is not None and version is not None}
