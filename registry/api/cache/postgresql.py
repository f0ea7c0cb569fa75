"""*Freshness over PostgreSQL*: one query at a time for the versions of all repositories that requests wait for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from registry.api.cache.freshness import Question, answer
from registry.api.cache.timer import RestartableTimer
from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from registry.database.engine import Database

MOST = 200
"""Repositories in one query: their names, of at most 255 bytes each, fit into the buffer of a socket."""
SECONDS = 5.0
"""After this long without an answer the database is taken to be lost."""


class Connection(Protocol):
    """See ``registry.database.postgresql.repository_versions.RepositoryVersions``."""

    def fileno(self) -> int:
        """See RepositoryVersions."""
        ...

    def send(self, names: Collection[str]) -> None:
        """See RepositoryVersions."""
        ...

    def receive(self) -> Mapping[str, int] | None:
        """See RepositoryVersions."""
        ...

    def close(self) -> None:
        """See RepositoryVersions."""
        ...


class PostgresqlFreshness:
    """See Freshness. Answers each question by a query that began after it was asked.

    A query begins at the end of a turn of the loop, so that all questions of that turn share it. Questions that come
    while it is on its way wait for the next, which begins at the end of the turn in which the first was answered.
    No question needs a task or a future.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """``connect`` may block; it runs in a thread."""
        self._connect = connect
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop
        """The one in which questions are asked."""
        self._waiting: list[Question] = []
        self._asked: list[Question] = []
        """What the query on its way will answer."""
        self._busy = False
        """Whether a query is on its way, or about to begin."""
        self._proven = False
        """Whether the connection has answered before: it may have been lost since, which says nothing of the server."""
        self._opening: asyncio.Task[None] | None = None
        self._limit = RestartableTimer(SECONDS, self._give_up)
        self._closed = False

    def ask(self, repository: str, version: int, callback: Callable[[bool], object]) -> None:
        """See Freshness."""
        if self._closed:
            callback(False)  # noqa: FBT003 - see Freshness
            return
        self._waiting.append(Question(repository, version, callback))
        if not self._busy:
            self._busy = True
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._begin)

    def close(self) -> None:
        """See Freshness. Also after the loop has ended."""
        self._closed = True
        self._disconnect()
        self._limit.close()
        left, self._asked, self._waiting = [*self._asked, *self._waiting], [], []
        if left and not self._loop.is_closed():
            answer(left, {})

    # ----

    def _begin(self) -> None:
        """Ask for all questions that wait now."""
        self._asked, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        self._busy = bool(self._asked)
        if self._busy:
            self._limit.set()
            self._send()

    def _send(self) -> None:
        if self._connection is None:
            self._opening = self._loop.create_task(self._open())
            return
        try:
            self._connection.send({question.repository for question in self._asked})
        except DatabaseUnavailable:
            self._lose()

    async def _open(self) -> None:
        connecting = asyncio.ensure_future(asyncio.to_thread(self._connect))
        try:
            connection = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_close)
            raise
        except DatabaseUnavailable:
            self._opening = None
            self._give_up()
        else:
            self._opening = None
            self._connection = connection
            self._loop.add_reader(connection.fileno(), self._receive)
            self._send()

    def _receive(self) -> None:
        """Something has arrived, or the connection is lost."""
        assert self._connection is not None  # noqa: S101 - it is watched as long as it is there
        try:
            versions = self._connection.receive()
        except DatabaseUnavailable:
            self._lose()
        else:
            if versions is not None:
                self._proven = True
                self._end(versions)

    def _lose(self) -> None:
        """The connection is lost; what was asked on it is asked once more, on another, if it had answered before."""
        again = self._proven
        self._disconnect()
        if self._asked and again:
            self._send()
        elif self._asked:
            self._end({})

    def _give_up(self) -> None:
        """The database is lost. An answer may still come, and would be taken for that to the next query."""
        self._disconnect()
        self._end({})

    def _end(self, versions: Mapping[str, int]) -> None:
        asked, self._asked = self._asked, []
        self._limit.stop()
        self._loop.call_soon(self._begin)  # for the questions of this turn, too
        answer(asked, versions)

    def _disconnect(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        connection, self._connection, self._proven = self._connection, None, False
        if connection is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(connection.fileno())
            connection.close()


def connect(database: Database) -> Connection:
    """Connect to ask for versions; waits for the server. Raises DatabaseUnavailable."""
    from registry.database.postgresql.repository_versions import RepositoryVersions  # noqa: PLC0415 - its library is there only with PostgreSQL

    return RepositoryVersions(database)


def _close(connecting: asyncio.Future[Connection]) -> None:
    """Free a connection that is no longer needed."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
