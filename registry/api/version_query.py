"""One query at a time for the versions of all repositories that requests wait for (design, section 4)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from registry.database.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

MOST = 200
"""Repositories in one query: their names, of at most 255 bytes each, fit into the buffer of a socket."""
SECONDS = 10.0
"""After this long without an answer the database is taken to be lost."""


class Connection(Protocol):
    """See ``registry.database.versions.Versions``."""

    def fileno(self) -> int:
        """See Versions."""
        ...

    def send(self, names: Collection[str]) -> None:
        """See Versions."""
        ...

    def receive(self) -> Mapping[str, int] | None:
        """See Versions."""
        ...

    def close(self) -> None:
        """See Versions."""
        ...


class VersionQuery:
    """Answers each caller by a query that began after he asked. For the event loop's thread alone.

    Who asks while a query is on its way waits for the next, with all the others; it begins when the first has ended.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        """``connect`` may block; it runs in a thread."""
        self._connect = connect
        self._connection: Connection | None = None
        self._waiting: list[tuple[str, asyncio.Future[int | None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._closed = False

    async def of(self, repository: str) -> int | None:
        """The repository's version at some time after this call; None: there is none, or the database is lost."""
        if self._closed:
            return None
        loop = asyncio.get_running_loop()
        version: asyncio.Future[int | None] = loop.create_future()
        self._waiting.append((repository, version))
        if self._asking is None:
            self._asking = loop.create_task(self._ask_for_all())
        return await version

    def close(self) -> None:
        """Answer who waits with None, and free the connection."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()  # it frees the connection, which it uses
        else:
            self._disconnect()

    # ----

    async def _ask_for_all(self) -> None:
        batch: list[tuple[str, asyncio.Future[int | None]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                _resolve(batch, await self._ask({repository for repository, _ in batch}))
        except BaseException:
            self._disconnect()  # an answer may still come, and would be taken for that to the next query
            raise
        finally:
            _resolve([*batch, *self._waiting], {})
            self._waiting.clear()
            self._asking = None

    async def _ask(self, repositories: set[str]) -> Mapping[str, int]:
        """The versions; none where the database is lost."""
        try:
            async with asyncio.timeout(SECONDS):
                if self._connection is not None:
                    # It may have been lost since it was last used, and then says nothing of the server.
                    with contextlib.suppress(DatabaseUnavailable):
                        return await _exchange(self._connection, repositories)
                    self._disconnect()
                self._connection = await self._open()
                return await _exchange(self._connection, repositories)
        except (DatabaseUnavailable, TimeoutError):
            self._disconnect()
            return {}

    async def _open(self) -> Connection:
        connecting = asyncio.ensure_future(asyncio.to_thread(self._connect))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_close)
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


async def _exchange(connection: Connection, repositories: set[str]) -> Mapping[str, int]:
    connection.send(repositories)
    loop = asyncio.get_running_loop()
    versions: asyncio.Future[Mapping[str, int]] = loop.create_future()

    def receive() -> None:
        try:
            received = connection.receive()
        except DatabaseUnavailable as error:
            if not versions.done():
                versions.set_exception(error)
        else:
            if received is not None and not versions.done():
                versions.set_result(received)

    socket = connection.fileno()
    loop.add_reader(socket, receive)
    try:
        return await versions
    finally:
        loop.remove_reader(socket)


def _resolve(batch: list[tuple[str, asyncio.Future[int | None]]], versions: Mapping[str, int]) -> None:
    for repository, version in batch:
        if not version.done():
            version.set_result(versions.get(repository))


def _close(connecting: asyncio.Future[Connection]) -> None:
    """Free a connection that nobody waits for any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
