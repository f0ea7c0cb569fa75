"""The connection on which versions are asked for, with a real server: also when it is cut without a word."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from registry.api.cache.postgresql import PostgresqlFreshness
from registry.database import repositories
from registry.database.engine import Database
from registry.database.errors import DatabaseUnavailable
from registry.database.postgresql.repository_versions import RepositoryVersions

NAME = "team/app"
VERSION = 1_000_000
"""Its first version: when it was made, in microseconds."""


@pytest.fixture
def database(new_database: Callable[[], str]) -> Iterator[Database]:
    opened = Database(new_database())
    with opened.transaction() as connection:
        repositories.create(connection, NAME, etag="", now=1.0)
    yield opened
    opened.close()


def cut(connection: RepositoryVersions) -> None:
    """As if the server had died: no farewell."""
    with socket.socket(fileno=connection.fileno()) as wire:
        wire.shutdown(socket.SHUT_RDWR)
        wire.detach()


def test_a_connection_that_was_cut_can_still_be_unwatched(database: Database) -> None:
    connection = RepositoryVersions(database)
    watched = connection.fileno()
    cut(connection)
    with pytest.raises(DatabaseUnavailable):
        connection.receive()
    assert connection.fileno() == watched
    connection.close()


def test_without_a_descriptor_for_the_watch_questions_are_answered_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async def story() -> float:
        with contextlib.closing(PostgresqlFreshness(lambda: RepositoryVersions(database))) as freshness:
            answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            began = time.monotonic()
            monkeypatch.setattr("registry.database.postgresql.repository_versions.os.dup", none_left)
            freshness.ask(NAME, VERSION, answered.set_result)
            assert not await asyncio.wait_for(answered, 20)
            return time.monotonic() - began

    assert asyncio.run(story()) < 5, "it waited for its limit of ten seconds"


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_cut_costs_no_answer_and_leaves_nothing_that_is_watched(
    new_loop: Callable[[], asyncio.AbstractEventLoop], database: Database
) -> None:
    made: list[RepositoryVersions] = []
    unexpected: list[object] = []

    def connect() -> RepositoryVersions:
        made.append(RepositoryVersions(database))
        return made[-1]

    async def story() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unexpected.append(context))
        with contextlib.closing(PostgresqlFreshness(connect)) as freshness:
            for _ in range(5):
                answered: asyncio.Future[bool] = loop.create_future()
                freshness.ask(NAME, VERSION, answered.set_result)
                assert await asyncio.wait_for(answered, 10)
                cut(made[-1])
                await asyncio.sleep(0.05)  # the loop hears of it

    with contextlib.closing(asyncio.Runner(loop_factory=new_loop)) as runner:
        runner.run(story())
    assert unexpected == []
    assert len(made) == 5
