"""One query at a time, and each question answered by one that began after it: with a server that a test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, TypeVar

import pytest
import uvloop

from registry.api.cache import postgresql
from registry.api.cache.postgresql import MOST, PostgresqlFreshness
from registry.database.errors import DatabaseUnavailable

T = TypeVar("T")
REPO = "team/app"


class Server:
    """What is committed, and queries that are answered when the test says so with what they saw when they began."""

    def __init__(self) -> None:
        self.committed = {REPO: 1}
        self.queries: list[list[str]] = []
        self.connections: list[Connection] = []
        self.down = False

    def connect(self) -> Connection:
        """A new connection."""
        if self.down:
            raise DatabaseUnavailable("down")
        self.connections.append(Connection(self))
        return self.connections[-1]

    @property
    def open(self) -> int:
        """Connections that are not closed."""
        return sum(not connection.closed for connection in self.connections)

    def answer(self) -> None:
        """Let the query that is on its way return."""
        self.connections[-1].far.send(b"!")

    def lose(self) -> None:
        """Cut every connection."""
        for connection in [connection for connection in self.connections if not connection.closed]:
            connection.lost = True
            connection.far.send(b"!")


class Connection:
    """A connection to it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._near, self.far = socket.socketpair()
        self._seen: dict[str, int] = {}
        self.lost = self.closed = False

    def fileno(self) -> int:
        """The socket."""
        return self._near.fileno()

    def send(self, names: Collection[str]) -> None:
        """Begin a query: it sees what is committed now."""
        if self.lost:
            raise DatabaseUnavailable("lost")
        self._server.queries.append(sorted(names))
        self._seen = {name: version for name, version in self._server.committed.items() if name in names}

    def receive(self) -> Mapping[str, int] | None:
        """What the query saw."""
        self._near.recv(1)
        if self.lost:
            raise DatabaseUnavailable("lost")
        return self._seen

    def close(self) -> None:
        """Close both sides."""
        self.closed = True
        self._near.close()
        self.far.close()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a story in an event loop of each kind."""

    def run(story: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(story)

    return run


async def _is_current(freshness: PostgresqlFreshness, version: int, repository: str = REPO) -> bool:
    """The answer to one question."""
    answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    freshness.ask(repository, version, lambda current: None if answered.done() else answered.set_result(current))
    return await answered


async def _sent(server: Server, count: int) -> None:
    async with asyncio.timeout(60):
        while len(server.queries) < count:  # noqa: ASYNC110 - the server is no task
            await asyncio.sleep(0.001)


Run = Callable[[Coroutine[Any, Any, None]], None]


def test_a_question_that_comes_while_a_query_is_on_its_way_waits_for_the_next(server: Server, run: Run) -> None:
    """The push is committed, and acknowledged, while a query is on its way that did not see it."""

    async def story() -> None:
        freshness = PostgresqlFreshness(server.connect)
        early = asyncio.create_task(_is_current(freshness, 1))
        await _sent(server, 1)
        server.committed[REPO] = 2
        late = asyncio.create_task(_is_current(freshness, 2))
        await asyncio.sleep(0)
        server.answer()
        assert await early
        assert not late.done()
        await _sent(server, 2)
        server.answer()
        assert await late
        freshness.close()

    run(story())
    assert server.open == 0


def test_questions_that_wait_for_a_hanging_query_share_the_next(server: Server, run: Run) -> None:
    async def story() -> None:
        server.committed |= {f"r/{number}": number for number in range(16)}
        freshness = PostgresqlFreshness(server.connect)
        first = asyncio.create_task(_is_current(freshness, 1))
        await _sent(server, 1)
        others = [asyncio.create_task(_is_current(freshness, number, f"r/{number}")) for number in range(16)]
        await asyncio.sleep(0.02)
        assert server.queries == [[REPO]]
        server.answer()
        await _sent(server, 2)
        server.answer()
        assert await asyncio.gather(first, *others) == [True] * 17
        freshness.close()

    run(story())
    assert server.queries[1:] == [sorted(f"r/{number}" for number in range(16))]


def test_a_query_does_not_grow_without_bound(server: Server, run: Run) -> None:
    async def story() -> None:
        freshness = PostgresqlFreshness(server.connect)
        waiting = [asyncio.create_task(_is_current(freshness, 1, f"r/{number}")) for number in range(MOST + 5)]
        for count in (1, 2):
            await _sent(server, count)
            server.answer()
        assert set(await asyncio.gather(*waiting)) == {False}, "there are none"
        freshness.close()

    run(story())
    assert [len(names) for names in server.queries] == [MOST, 5]


def test_a_connection_that_was_lost_while_idle_is_made_again(server: Server, run: Run) -> None:
    async def story() -> None:
        freshness = PostgresqlFreshness(server.connect)
        for count in (1, 2):
            asking = asyncio.create_task(_is_current(freshness, 1))
            await _sent(server, count)
            server.answer()
            assert await asking
            server.lose()
        freshness.close()

    run(story())
    assert server.open == 0


def test_a_lost_database_answers_false_and_is_found_again(server: Server, run: Run) -> None:
    async def story() -> None:
        freshness = PostgresqlFreshness(server.connect)
        asking = [asyncio.create_task(_is_current(freshness, 1)) for _ in range(3)]
        await _sent(server, 1)
        server.down = True
        server.lose()
        async with asyncio.timeout(postgresql.SECONDS / 2):  # not only when the patience with the server ends
            assert await asyncio.gather(*asking) == [False] * 3
            assert not await _is_current(freshness, 1)
        server.down = False
        again = asyncio.create_task(_is_current(freshness, 1))
        await _sent(server, 2)
        server.answer()
        assert await again
        freshness.close()

    run(story())
    assert server.open == 0


def test_a_server_that_says_nothing_is_lost_after_a_while(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "SECONDS", 0.05)

    async def story() -> None:
        freshness = PostgresqlFreshness(server.connect)
        assert not await _is_current(freshness, 1)
        async with asyncio.timeout(60):  # a thread may be opening it
            while server.open:  # noqa: ASYNC110 - the server is no task
                await asyncio.sleep(0.01)
        freshness.close()

    run(story())


def test_a_cancelled_question_does_not_disturb_the_others(server: Server, run: Run) -> None:
    async def story() -> None:
        freshness = PostgresqlFreshness(server.connect)
        leaving, staying = [asyncio.create_task(_is_current(freshness, 1)) for _ in range(2)]
        await _sent(server, 1)
        leaving.cancel()
        await asyncio.sleep(0)
        server.answer()
        assert await staying
        freshness.close()

    run(story())


def test_a_callback_that_raises_does_not_keep_the_others_waiting(server: Server, run: Run) -> None:
    async def story() -> None:
        raised: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))
        freshness = PostgresqlFreshness(server.connect)

        def fail(current: bool) -> None:
            raise ValueError(current)

        others: list[asyncio.Future[bool]] = [asyncio.get_running_loop().create_future() for _ in range(2)]
        for callback in (fail, *(other.set_result for other in others)):
            freshness.ask(REPO, 1, callback)
        await _sent(server, 1)
        server.answer()
        async with asyncio.timeout(postgresql.SECONDS / 2):
            assert await asyncio.gather(*others) == [True, True]
        assert [type(error) for error in raised] == [ValueError]
        freshness.close()

    run(story())


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "the loop ended"])
def test_closing_frees_the_connection_and_answers_what_waits(server: Server, run: Run, closed: bool) -> None:
    freshness = PostgresqlFreshness(server.connect)

    async def story() -> None:
        asking = asyncio.create_task(_is_current(freshness, 1))
        await _sent(server, 1)
        if closed:
            freshness.close()
            assert not await asking
            assert not await _is_current(freshness, 1)

    run(story())
    freshness.close()
    assert server.open == 0
